"""What opening a new run and opening an old one have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from orch.adapters.contract import Adapter, RunInfo
from orch.bus.log import Durability, Log
from orch.bus.machine import HERE, Machine
from orch.leader.settings import Settings
from orch.store.file import FileStore

AdapterByName = Callable[[str], Adapter]

VERSION = "0.1.0"


class Lock(Protocol):
    """What a leader needs of the run's lock (`orch.bus.lock.RunLock`)."""

    def acquire(self, *, take_over: bool = False) -> None:
        """Take it, from whoever has it if `take_over`, or raise `RunBusy`."""

    def renew(self) -> bool:
        """Say that its holder lives; False if it is not ours any more. Blocks. Raises `LogTrouble`."""

    def release(self) -> None:
        """Let go of it."""


async def open_log(directory: Path, run: str, settings: Settings, machine: Machine = HERE) -> Log:
    """Begin an epoch of the run's log."""
    durability: Durability = "relaxed" if settings.durability == "relaxed" else "always"
    return await Log.open(directory, run=run, version=VERSION, durability=durability, machine=machine)


def run_info(run: str, epoch: int, store: FileStore, settings: Settings, environment: dict[str, str]) -> RunInfo:
    """What the adapter has to know."""
    return RunInfo(
        run=run,
        epoch=epoch,
        store=str(store.root),
        environment=environment,
        cores=settings.cores,
        memory=settings.memory,
        disk=settings.disk,
        work_dir=settings.work_dir,
        named=settings.set_env,
    )
