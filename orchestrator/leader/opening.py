"""What opening a new run and opening an old one have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from orch.adapters.contract import Adapter, RunInfo
from orch.bus.events import Call, JobId
from orch.bus.log import Durability, Log
from orch.bus.machine import HERE, Machine
from orch.bus.places import Point
from orch.leader.calls import Cache, Learned, Reuse
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


async def open_log(
    directory: Path, run: str, settings: Settings, machine: Machine = HERE, trusted: Point | None = None
) -> Log:
    """Begin an epoch of the run's log, which is known to be whole up to the point `trusted`."""
    durability: Durability = "relaxed" if settings.durability == "relaxed" else "always"
    return await Log.open(directory, run=run, version=VERSION, durability=durability, machine=machine, trusted=trusted)


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
        clean_scratch=settings.clean_scratch,
        options=settings.options,
    )


class LateCache:
    """The call cache of a run, made when something is asked of it for the first time: most runs need none."""

    def __init__(self, make: Callable[[], Cache]) -> None:
        self._make = make
        self._made: Cache | None = None

    def _real(self) -> Cache:
        if self._made is None:
            self._made = self._make()
        return self._made

    async def find(self, wanted: Sequence[tuple[JobId, Call]]) -> dict[JobId, Reuse | None]:
        """See `orch.leader.calls.Calls`."""
        return await self._real().find(wanted)

    async def learn(self, done: Sequence[Learned]) -> None:
        """See `orch.leader.calls.Calls`."""
        await self._real().learn(done)

    async def remove(self, paths: Sequence[str]) -> None:
        """See `orch.leader.calls.Remover`."""
        await self._real().remove(paths)

    async def close(self) -> None:
        """Let go of it, if it was made."""
        if self._made is not None:
            await self._made.close()


def cache_of(store: FileStore, run: str) -> Callable[[Callable[[str], None]], Cache]:
    """What makes the call cache of a run; it gets a function that says something to the user."""

    def make(warn: Callable[[str], None]) -> Cache:
        from orch.calls.cache import CallCache  # slow to import

        return CallCache(store, run, warn)

    return lambda warn: LateCache(lambda: make(warn))
