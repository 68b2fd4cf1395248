"""What the leader asks of the call cache (`orch.calls`), and of whoever deletes files that nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from orch.bus.events import Call, JobId, Kept, StoredFile


class Reuse(msgspec.Struct, frozen=True):
    """The final value of an equal earlier call, as the event `reused` has it. `source` is a job of the run `run`."""

    run: str
    source: JobId
    values: list[Kept]
    files: list[StoredFile] = []


class Learned(msgspec.Struct, frozen=True):
    """A call that has been made: the body of `job` has run, and all that its attempts made is done.

    `values`, `files`: as in the event `reused`; `files` are those that the jobs of these values wrote.
    `time`: that of the log at which the job's body had succeeded.
    """

    job: JobId
    call: Call
    kind: str
    values: list[Kept]
    files: list[StoredFile] = []
    time: str = ""


class Calls(Protocol):
    """Earlier calls, of all runs of the store. Nothing here raises: without a cache, a job just runs."""

    async def find(self, wanted: Sequence[tuple[JobId, Call]]) -> dict[JobId, Reuse | None]:
        """For each job the value of an equal call, all of whose files are there; None: there is none."""
        ...

    async def learn(self, done: Sequence[Learned]) -> None:
        """Remember calls that this run has made. To be called once the events that say so are durable."""
        ...

    async def close(self) -> None:
        """Let go of everything. To be called in any case: an open index has a thread, which the process waits for."""
        ...


class Remover(Protocol):
    """Deletes files."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Delete these of the store's files, but for those that a call in the cache has in its value.

        To be called once `removed` is durable; what is gone already is gone. Raises `StoreError`.
        """
        ...


class Cache(Calls, Remover, Protocol):
    """Both, for one run."""
