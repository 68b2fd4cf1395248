"""A batch system that finishes everything at once, in this process: for benchmarks and tests of the leader."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Sequence

from orch.adapters.contract import Capacity, Finished, RunInfo, Started, Unknown, Update
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.events import Blob

_NONE = pickle.dumps(None, 5)


def succeed(attempt: Attempt) -> Outcome:
    """The outcome of a job that returned None."""
    return Outcome(key=attempt.key, reason=Reason.FINISHED, exit_code=0, value=Blob(data=_NONE, size=len(_NONE)))


class NullAdapter:
    """`outcome` says what each attempt leaves behind; by default it succeeds with None."""

    name = "null"

    def __init__(self, outcome: Callable[[Attempt], Outcome] = succeed, capacity: Capacity | None = None) -> None:
        self._outcome = outcome
        self._capacity = capacity or Capacity(cores=64, memory=1 << 40, disk=1 << 40, ahead=1024)

    async def open(self, info: RunInfo) -> NullSession:
        """Connect a run."""
        return NullSession(self._outcome, self._capacity)

    async def close(self) -> None:
        """Nothing is kept."""


class NullSession:
    """One run's view."""

    def __init__(self, outcome: Callable[[Attempt], Outcome], capacity: Capacity) -> None:
        self._outcome = outcome
        self._capacity = capacity
        self._updates: list[Update] = []
        self._news = asyncio.Event()
        self._closed = False

    def _tell(self, updates: list[Update]) -> None:
        self._updates += updates
        self._news.set()

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Finish them."""
        for attempt in attempts:
            self._tell([Started(attempt.key), Finished(attempt.key, self._outcome(attempt))])

    async def cancel(self, keys: Sequence[str]) -> None:
        """Everything is over already: say that nothing is known, as any adapter does of what it has forgotten."""
        self._tell([Unknown(key) for key in keys])

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Everything is over already."""

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """Nothing is used."""

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Nothing is kept."""

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Nothing is kept."""
        self._tell([Unknown(key, ask) for key in keys])

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates."""
        while not self._closed:
            await self._news.wait()
            self._news.clear()
            if self._updates:
                batch, self._updates = self._updates, []
                yield batch

    def capacity(self) -> Capacity:
        """As given."""
        return self._capacity

    def stand_still(self, *, waits: bool) -> None:
        """Nothing ever waits."""

    async def describe(self, key: str) -> str:
        """Nothing ever waits."""
        return ""

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """Nothing is ever printed."""
        return b"", b""

    async def close(self) -> None:
        """End the updates."""
        self._closed = True
        self._news.set()
