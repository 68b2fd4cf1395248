"""What a leader has done beside its turns, so that no other job waits for it: the call cache, and files to delete."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import anyio
import anyio.abc
import anyio.lowlevel

from orch.bus import events as ev
from orch.errors import StoreError
from orch.leader.calls import Cache, Learned
from orch.leader.supply import Supply
from orch.leader.turn import Found, Item, Turn
from orch.state.law import JobState
from orch.state.model import State

SOME = 100
"""Events that are read at once: a leader has other things to do."""


class Aside:
    """`cache`: None where there is none. `put`: into the leader's inbox. `reuse`: may values of calls be taken?"""

    def __init__(
        self,
        state: State,
        fetch: Callable[[int], ev.Event],
        supply: Supply,
        cache: Cache | None,
        put: Callable[[list[Item]], None],
        *,
        reuse: bool = True,
    ) -> None:
        self._state = state
        self._fetch = fetch
        self._supply = supply
        self._cache = cache
        self._put = put
        self._reuse = reuse
        self._learned = len(state.called)  # how many calls the cache has heard of
        self._tasks: anyio.abc.TaskGroup | None = None

    def begin(self, tasks: anyio.abc.TaskGroup) -> None:
        """Take up what an earlier leader has left."""
        self._tasks = tasks
        self._look_up(list(self._state.surveyed.items()))
        if self._cache is not None and self._state.removed:
            tasks.start_soon(self._remove_again, self._cache, list(self._state.removed))

    async def follow(self, turn: Turn) -> None:
        """What follows from a turn that is durable. After the last one nobody is left to do it later."""
        assert self._tasks is not None
        self._look_up(turn.look_up)
        called = self._state.called[self._learned :] if self._reuse else []
        self._learned = len(self._state.called)
        if self._cache is None or not (called or turn.remove):
            return
        if turn.last:
            await self._tidy(self._cache, called, turn.remove)
        else:
            self._tasks.start_soon(self._tidy, self._cache, called, turn.remove)

    async def _remove_again(self, cache: Cache, seqs: list[int]) -> None:
        """Nothing says which files are gone that were to be deleted: all are, once more, some events at a time."""
        for start in range(0, len(seqs), SOME):
            events = map(self._fetch, seqs[start : start + SOME])
            files = [file for event in events if isinstance(event, ev.Removed) for file in event.files]
            await self._tidy(cache, [], files)
            await anyio.lowlevel.checkpoint()

    async def _tidy(self, cache: Cache, called: list[ev.JobId], files: list[str]) -> None:
        """Tell the call cache what it has to offer now; only then it knows which of the files it must not delete.

        Shielded: it may be under way when the last turn is over, and nobody comes back to it.
        """
        with anyio.CancelScope(shield=True):
            if called:
                await cache.learn([self._lesson(job) for job in called])
            if files:
                with contextlib.suppress(StoreError):  # what stays goes with the run
                    await cache.remove(files)

    def _lesson(self, job: ev.JobId) -> Learned:
        row = self._state.jobs[job]
        values, files = self._supply.kept(self._state, job)
        time = row.times.get(JobState.SUCCEEDED, "")
        return Learned(job=job, call=self._state.calls[job], kind=row.kind, values=values, files=files, time=time)

    def _look_up(self, wanted: list[tuple[ev.JobId, ev.Call]]) -> None:
        """Have the call cache asked; the answer comes through the inbox."""
        if not wanted:
            return
        if self._cache is None or not self._reuse:
            self._put([Found(job, None) for job, _ in wanted])
            return
        assert self._tasks is not None
        self._tasks.start_soon(self._ask, self._cache, wanted)

    async def _ask(self, cache: Cache, wanted: list[tuple[ev.JobId, ev.Call]]) -> None:
        found = await cache.find(wanted)
        self._put([Found(job, found.get(job)) for job, _ in wanted])
