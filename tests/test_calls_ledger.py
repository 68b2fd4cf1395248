"""An index that was kept up to date piece by piece is the same as one that is made anew from the logs."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.calls import blob, cache_in, call, everything, learned
from support.handmade import created

from orch.bus import events as ev
from orch.bus.log import Log
from orch.calls.cache import CallCache
from orch.calls.record import place_of
from orch.store import layout
from orch.store.file import FileStore

RUNS = ("a", "b")
MOST_JOBS = 12


class Story:
    """Events of one run, by chance: jobs that make jobs, fail, are tried again, take values, and are rewound."""

    def __init__(self, chance: random.Random, run: str) -> None:
        self._chance = chance
        self._next = 1
        self._attempts: dict[int, int] = {}
        self._open: list[int] = []
        self.events: list[ev.Event] = [created(run)]
        first = self._added(0, 1, self._chance.randint(1, 3))
        self.events.append(ev.Planned(count=len(first)))
        self._open += self._with_bodies(first)
        while self._open:
            self._step(self._open.pop(self._chance.randrange(len(self._open))))

    def _added(self, by: int, attempt: int, count: int) -> list[int]:
        jobs = list(range(self._next, self._next + count))
        self._next += count
        for job in jobs:
            earlier = [one for one in jobs if one < job]
            group = bool(earlier) and self._chance.random() < 0.2
            needs = earlier[:1] if group else []
            form = "group" if group else "fork"
            self.events.append(ev.Added(job=job, kind="f", by=by, attempt=attempt, form=form, needs=needs, cache=True))
        return jobs

    def _with_bodies(self, jobs: list[int]) -> list[int]:
        groups = {one.job for one in self.events if isinstance(one, ev.Added) and one.form == "group"}
        return [job for job in jobs if job not in groups]

    def _step(self, job: int) -> None:
        """Something becomes of a job."""
        attempt = self._attempts[job] = self._attempts.get(job, 0) + 1
        first = ["survey"] * 6 if attempt == 1 else []
        what = self._chance.choice([*first, *["end"] * 8, "orphans", "fail", "stop"])
        if what == "survey":
            found = call(f"{job}.{self._chance.randint(0, 3)}") if self._chance.random() < 0.9 else None
            self.events.append(ev.Surveyed(job=job, attempt=attempt, resources=ev.Resources(), call=found))
            if self._chance.random() < 0.3:
                values = [ev.Kept(blob("taken"), [1]), ev.Kept(blob("below"))]
                self.events.append(ev.Reused(job=job, run="elsewhere", source=1, values=values))
                return
            self._open.append(job)
        elif what == "end":
            self._end(job, attempt)
        elif what == "orphans":
            self._added(job, attempt, 1)
            self.events.append(ev.Retrying(job=job, attempt=attempt, reason="LOST"))
            self._open.append(job)
        elif what == "fail":
            self.events.append(ev.Failed(job=job, attempt=attempt, reason="FAILED"))

    def _end(self, job: int, attempt: int) -> None:
        most = min(3, MOST_JOBS - self._next)
        made = self._added(job, attempt, self._chance.randint(0, most)) if most > 0 else []
        refs = self._chance.sample(made, self._chance.randint(0, len(made)))
        alias = len(refs) == 1 and self._chance.random() < 0.5
        value = ev.EMPTY if alias else blob([job, "runs/a/files/000/9.1/0/passed on"] if job == 3 else job)
        ended = ev.Succeeded(job=job, attempt=attempt, value=value, refs=refs, alias=alias, added=len(made))
        self.events.append(ended)
        self._open += self._with_bodies(made)
        if self._open and self._open[-1] in made and self._chance.random() < 0.3:
            failed = self._open[-1]
            self.events.append(ev.Failed(job=failed, attempt=1, reason="FAILED"))
            self.events.append(ev.Rewound(job=job, failed=failed))
            self._open = [one for one in self._open if one not in made]
            self._open.append(job)


@contextlib.asynccontextmanager
async def opened(store: FileStore, run: str) -> AsyncIterator[Log]:
    log = await Log.open(store.local_path(layout.log_dir(run)), run=run)
    try:
        yield log
    finally:
        await log.close()


async def write_and_learn(
    store: FileStore, run: str, pieces: list[list[ev.Event]], env: dict[str, str], chance: random.Random
) -> None:
    """Piece by piece, by several leaders; after some pieces the cache is told what there is, and asked."""
    warnings: list[str] = []
    cache = CallCache(store, run, warnings.append, env)
    try:
        for piece in pieces:
            async with opened(store, run) as log:
                await log.append(piece)
            if chance.random() < 0.5:
                await cache.learn(await anyio.to_thread.run_sync(learned, store, run))
                await cache.find([(1, call("1.1"))])
            if chance.random() < 0.3:
                await cache.close()
                cache = CallCache(store, run, warnings.append, env)
    finally:
        await cache.close()
    assert warnings == []


def cut(events: list[ev.Event], chance: random.Random) -> list[list[ev.Event]]:
    """Into pieces, but never what a success commits from it: they are one append."""
    places = [k for k in range(1, len(events)) if not isinstance(events[k - 1], ev.Added)]
    chosen = sorted(chance.sample(places, min(3, len(places))))
    return [events[a:b] for a, b in zip([0, *chosen], [*chosen, len(events)], strict=True)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_it_is_the_same_however_it_came_about(seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        store = FileStore(Path(place) / "s")
        store.create()
        stored = "runs/a/files/000/9.1/0/passed on"
        store.write_bytes(stored, b"x")
        env, other = cache_in(Path(place) / "one"), cache_in(Path(place) / "other")
        for run in RUNS:
            story = Story(chance, run)
            anyio.run(write_and_learn, store, run, cut(story.events, chance), env, chance)
        kept = everything(store, env)
        assert kept == everything(store, other)
        for one in kept:
            assert all(0 <= ref < len(one.entry.values) for value in one.entry.values for ref in value.refs)
            assert set(one.entry.mentions) <= {place_of(stored)}
