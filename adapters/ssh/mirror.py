"""A session with an agent on a host that does not see the leader's store, but has a mirror of what it needs of it.

What an attempt's record names is there before the agent hears of it: the bundle, and bodies and values that are files.
What it refers to otherwise is sent when it asks for it. What it leaves behind is in the leader's store, durable, before
the leader hears of its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence

import asyncssh

from orch.adapters.agents.host import HostSession
from orch.adapters.agents.places import latest_epoch
from orch.adapters.contract import Capacity, Finished, OfAttempt, RunInfo, Update
from orch.adapters.local import LinkCut
from orch.adapters.ssh.files import Files
from orch.adapters.ssh.line import Line
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bus.events import Blob
from orch.errors import AdapterError, OrchError, StoreError
from orch.store import layout
from orch.store.file import MARKER


def mirror_name(store: str) -> str:
    """What a mirror of this store is called: the same wherever the leader sees it from, and another's is not."""
    found = os.stat(os.path.join(store, MARKER))
    return hashlib.sha256(f"{found.st_ino} {found.st_mtime_ns} {found.st_uid}".encode()).hexdigest()[:16]


class MirrorSession:
    """`inner` speaks with the agent; `there` is the run as that knows it."""

    def __init__(self, inner: HostSession, line: Line, info: RunInfo, there: RunInfo) -> None:
        self._inner = inner
        self._line = line
        self._files = Files(line, info.store, there.store)
        self._mirror, self._store, self._run, self._epoch = there.store, info.store, info.run, info.epoch
        self._sending: dict[str, Attempt] = {}
        self._cancelled: set[str] = set()
        self._stopped: set[str] = set()
        self._live: set[str] = set()
        self._fetching = 0
        self._news: asyncio.Queue[list[Update] | Exception] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin(self._listen())

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Have what they need sent, and then hand them over."""
        self._live.update(attempt.key for attempt in attempts)
        self._sending.update({attempt.key: attempt for attempt in attempts})
        self._begin(self._send(list(attempts)))

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended; those that are still being prepared never start."""
        self._cancelled.update(key for key in keys if key in self._sending)
        await self._inner.cancel([key for key in keys if key not in self._sending])

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        await self._inner.stop_services([key for key in keys if key not in self._sending])
        self._stopped.update(key for key in keys if key in self._sending)

    async def withdraw(self, keys: Sequence[str], ask: int) -> None:
        """Have attempts forgotten that wait for their turn there."""
        await self._inner.withdraw([key for key in keys if key not in self._sending], ask)

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What the run may use there."""
        await self._inner.limit(cores, memory, disk)

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Have outcomes forgotten."""
        self._live.difference_update(keys)
        self._cancelled.difference_update(keys)
        self._stopped.difference_update(keys)
        await self._inner.acknowledge(keys)

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask about attempts that were handed over."""
        self._live.update(keys)
        await self._inner.find([key for key in keys if key not in self._sending], ask)

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates, once the files that they name are here. Raises what the agent's session raises."""
        while True:
            batch = await self._news.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def capacity(self) -> Capacity:
        """The host's."""
        return self._inner.capacity()

    def stand_still(self, *, waits: bool) -> None:
        """Not while something is on its way."""
        self._inner.stand_still(waits=waits and not (self._sending or self._fetching or self._news.qsize()))

    async def describe(self, key: str) -> str:
        """Why an attempt does not run yet."""
        return "what it needs is being sent there" if key in self._sending else await self._inner.describe(key)

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What a running attempt has written so far."""
        return await self._inner.output(key)

    async def close(self) -> None:
        """Let go. Where nothing of the run is left to do, nothing of it is left in the mirror."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inner.close()
        with contextlib.suppress(AdapterError, StoreError):  # cut off: it stays until the run is there again, and over
            if not self._live and await asyncio.to_thread(latest_epoch, self._store, self._run) <= self._epoch:
                await self._line.ask("forget", f"{self._mirror}\0{self._run}")
                self._files.forgotten(layout.run_dir(self._run))

    # Sending --------------------------------------------------------------------------------------------------

    async def _send(self, attempts: list[Attempt]) -> None:
        ready = [attempt for attempt in attempts if await self._prepared(attempt)]
        going = [attempt for attempt in ready if attempt.key not in self._cancelled]
        for attempt in attempts:
            self._sending.pop(attempt.key, None)
        for attempt in ready:
            if attempt.key in self._cancelled:
                self._end(attempt, Reason.KILLED, "ended on request")
        await self._inner.submit(going)
        stopped = [attempt.key for attempt in going if attempt.key in self._stopped]
        if stopped:
            await self._inner.stop_services(stopped)

    async def _prepared(self, attempt: Attempt) -> bool:
        try:
            for path in needed(attempt):
                await self._files.send(path)
        except LinkCut:  # whoever asks for it later learns that it was never handed over
            raise
        except (OrchError, OSError, asyncssh.Error) as error:
            self._end(attempt, Reason.ERROR, f"what it needs cannot be sent to {self._line.name}: {error}")
            return False
        return True

    def _end(self, attempt: Attempt, reason: Reason, message: str) -> None:
        outcome = Outcome(key=attempt.key, reason=reason, message=message)
        self._news.put_nowait([Finished(attempt.key, outcome)])

    # Fetching -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for batch in self._inner.updates():
            plain: list[Update] = []
            for update in batch:
                paths = list(left(update)) if isinstance(update, Finished | Note) else []
                if paths and isinstance(update, Finished | Note):
                    self._fetching += 1
                    self._begin(self._fetch(update, paths))
                else:
                    plain.append(update)
            if plain or not batch:
                self._news.put_nowait(plain)

    async def _fetch(self, update: Finished | Note, paths: list[tuple[str, str]]) -> None:
        try:
            for path, digest in paths:
                await self._files.fetch(path, digest)
        except LinkCut:  # it is told again when the host is back
            return
        except (OrchError, OSError, asyncssh.Error) as error:
            if isinstance(update, Finished):
                self._news.put_nowait([Finished(update.key, _unfetched(update.outcome, error))])
            return
        finally:
            self._fetching -= 1
        self._news.put_nowait([update])

    # Tasks ----------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervise(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever ends a part of the session ends it, with this as its reason
            self._news.put_nowait(error)


def needed(attempt: Attempt) -> Iterator[str]:
    """The files and directories of the store that an attempt's record names."""
    if attempt.bundle:
        yield layout.bundle_dir(attempt.bundle)
    for blob in (attempt.body, attempt.wanted, *(value.blob for value in attempt.values.values())):
        if blob.file:
            yield blob.file


def left(update: OfAttempt) -> Iterator[tuple[str, str]]:
    """The files that an update names, with their digests, where they have any."""
    if isinstance(update, Note):
        yield from _blobs(update.blob)
    elif isinstance(update, Finished):
        outcome = update.outcome
        yield from _blobs(outcome.value, outcome.stdout, outcome.stderr)
        for job in outcome.jobs:
            yield from _blobs(job.body, job.wanted)
        yield from ((file.path, file.digest) for file in outcome.files)


def _blobs(*blobs: Blob) -> Iterator[tuple[str, str]]:
    yield from ((blob.file, blob.digest) for blob in blobs if blob.file)


def _unfetched(outcome: Outcome, error: Exception) -> Outcome:
    """It ended, and what it left behind cannot be had."""
    message = f"it ended with {outcome.reason}, but what it left on {outcome.host} cannot be fetched: {error}"
    return Outcome(key=outcome.key, reason=Reason.PARTITION, message=message, usage=outcome.usage, host=outcome.host)
