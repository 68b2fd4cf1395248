"""What opening a new run and opening an old one have in common."""

from __future__ import annotations

from collections.abc import Callable

from orch.adapters.contract import Adapter, RunInfo
from orch.bus.identity import whoami
from orch.bus.log import Durability, Log
from orch.leader.settings import Settings
from orch.store import layout
from orch.store.file import FileStore

AdapterByName = Callable[[str], Adapter]

VERSION = "0.1.0"


async def open_log(store: FileStore, run: str, settings: Settings) -> Log:
    """Begin an epoch of the run's log."""
    durability: Durability = "relaxed" if settings.durability == "relaxed" else "always"
    return await Log.open(
        store.local_path(layout.log_dir(run)), run=run, identity=whoami(VERSION), durability=durability
    )


def run_info(run: str, epoch: int, store: FileStore, settings: Settings, environment: dict[str, str]) -> RunInfo:
    """What the adapter has to know."""
    return RunInfo(
        run=run,
        epoch=epoch,
        store=str(store.root),
        environment=environment,
        cores=settings.cores,
        memory=settings.memory,
        work_dir=settings.work_dir,
    )
