"""The run's lock, as the kernel has it: let go of when its holder dies; or as good as none, on some file systems."""

from __future__ import annotations

from orch.errors import RunBusy
from simulator.process import Process


class Lock:
    """`works`: on this file system."""

    def __init__(self, *, works: bool) -> None:
        self.works = works
        self.holder: Process | None = None

    def of(self, process: Process) -> Held:
        """The lock as one process has it."""
        return Held(self, process)

    def died(self, process: Process) -> None:
        """The kernel lets go of it."""
        if self.holder is process:
            self.holder = None


class Held:
    """One process's view (`orch.leader.opening.Lock`)."""

    def __init__(self, lock: Lock, process: Process) -> None:
        self._lock = lock
        self._process = process

    def acquire(self, *, take_over: bool = False) -> None:
        self._process.check()
        holder = self._lock.holder
        if self._lock.works and not take_over and holder is not None and holder is not self._process:
            raise RunBusy(f"{holder.name} leads")
        self._lock.holder = self._process

    def renew(self) -> bool:
        self._process.check()
        return self._lock.holder is self._process

    def release(self) -> None:
        self._lock.died(self._process)
