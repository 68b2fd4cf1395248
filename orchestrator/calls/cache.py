"""The call cache as the leader has it: nothing that goes wrong here stops a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
from anyio import to_thread

from orch.bus.events import Call, JobId
from orch.calls.index import Found, Index
from orch.calls.present import missing
from orch.calls.record import Entry
from orch.calls.source import SURVEYED, complete, stamp, tells
from orch.errors import StoreError
from orch.leader.calls import Learned, Reuse
from orch.store.file import FileStore
from orch.store.layout import log_dir

Result = TypeVar("Result")
Wanted = Sequence[tuple[JobId, Call]]


class CallCache:
    """Of one run, for as long as it is led here. The index is opened when it is asked for the first time.

    `warn` gets one line for the user if the index cannot be used; from then on there are no earlier calls.
    """

    def __init__(
        self, store: FileStore, run: str, warn: Callable[[str], None], environment: Mapping[str, str] | None = None
    ) -> None:
        self._store = store
        self._run = run
        self._warn = warn
        self._index = Index(store, os.environ if environment is None else environment)
        self._lock = anyio.Lock()  # one database, which knows one transaction at a time
        self._open = False
        self._broken = False
        self._identity = ""
        self._has_calls: bool | None = None  # has this run any? None: not looked yet

    async def find(self, wanted: Wanted) -> dict[JobId, Reuse | None]:
        """See `orch.leader.calls.Calls`."""
        found = await self._with_index(lambda index: self._find(index, wanted))
        return dict.fromkeys((job for job, _ in wanted), None) | (found or {})

    async def _find(self, index: Index, wanted: Wanted) -> dict[JobId, Reuse]:
        candidates = await index.equal([call.digest for _, call in wanted])
        chosen, gone = await to_thread.run_sync(self._choose, wanted, candidates)
        if gone:
            await index.drop(gone)
        return chosen

    async def learn(self, done: Sequence[Learned]) -> None:
        """See `orch.leader.calls.Calls`."""
        await self._with_index(lambda index: self._learn(index, done))

    async def _learn(self, index: Index, done: Sequence[Learned]) -> None:
        found = await to_thread.run_sync(self._entries, done)
        if found:
            await index.add(found, self._identity)

    async def remove(self, paths: Sequence[str]) -> None:
        """See `orch.leader.calls.Remover`. Where the index cannot tell, nothing is deleted."""
        held: set[str] | None = set()
        if await self._has_made_calls():
            held = await self._with_index(lambda index: index.used(paths))
        if held is not None:
            await to_thread.run_sync(remove_files, self._store, [path for path in paths if path not in held])

    async def _has_made_calls(self) -> bool:
        """Has this run made any? Most have none, and need no index. Raises `StoreError`."""
        if self._has_calls is None:
            directory = self._store.local_path(log_dir(self._run))
            try:
                self._has_calls = await to_thread.run_sync(tells, directory, SURVEYED)
            except OSError as error:
                raise StoreError(f"could not read the log {directory}: {error.strerror}") from error
        return self._has_calls

    async def close(self) -> None:
        """Let go of the index."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                await self._index.close()

    async def _with_index(self, use: Callable[[Index], Awaitable[Result]]) -> Result | None:
        """What `use` gives; None if the index cannot be used. One at a time."""
        self._has_calls = True
        async with self._lock:
            if self._broken:
                return None
            try:
                return await use(await self._ready())
            except Exception as error:  # noqa: BLE001 - a cache that fails is no cache, and no more than that
                self._broken = True
                self._warn(f"the call cache cannot be used: {_text(error)}; jobs run as if there were none")
                return None

    async def _ready(self) -> Index:
        if not self._open:
            await self._index.open()
            mine = await to_thread.run_sync(stamp, self._store, self._run)
            if mine is None:
                raise StoreError(f"run {self._run} has no log")
            self._identity = mine.identity
            self._open = True
        return self._index

    def _choose(
        self, wanted: Wanted, candidates: Mapping[str, Sequence[Found]]
    ) -> tuple[dict[JobId, Reuse], list[Entry]]:
        """For each job the newest call that is whole; and calls of which something is gone."""
        chosen: dict[JobId, Reuse] = {}
        gone: dict[tuple[str, JobId], Entry] = {}
        identities: dict[str, str] = {}
        for job, call in wanted:
            for found in candidates[call.digest]:
                entry = found.entry
                with contextlib.suppress(StoreError):  # what cannot be told now is not taken, and not forgotten
                    if self._is_whole(found, identities):
                        chosen[job] = Reuse(entry.run, entry.job, entry.values, entry.files)
                        break
                    gone[entry.run, entry.job] = entry
        return chosen, list(gone.values())

    def _is_whole(self, found: Found, identities: dict[str, str]) -> bool:
        """Is the run still the one that was read, and is all there?"""
        run = found.entry.run
        if run not in identities:
            now = stamp(self._store, run)
            identities[run] = now.identity if now else ""
        return identities[run] == found.identity and not missing(self._store, found.entry)

    def _entries(self, done: Sequence[Learned]) -> list[Entry]:
        """Those whose values are there, as they should be."""
        made = (Entry(self._run, x.job, x.kind, x.call, x.values, x.files, [], x.time) for x in done)
        return [entry for entry in (complete(self._store, one) for one in made) if entry is not None]


def remove_files(store: FileStore, paths: Sequence[str]) -> None:
    """Delete files of the store, with directories that are empty then. What is gone is gone. Raises `StoreError`."""
    for path in paths:
        store.delete(path)
        place = store.local_path(path).parent
        with contextlib.suppress(OSError):  # that of the file, and that of the attempt, if there is no other file
            place.rmdir()
            place.parent.rmdir()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
