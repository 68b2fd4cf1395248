"""Runs that have made calls, with logs written by hand, and an index of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio

from orch.bus import events as ev
from orch.bus.log import Log
from orch.calls.cache import CallCache
from orch.calls.index import Found, Index
from orch.calls.source import entries
from orch.files import FileRef
from orch.leader.calls import Learned, Reuse
from orch.store import layout
from orch.store.file import FileStore
from support.handmade import created


def call(text: str, **parts: str) -> ev.Call:
    """A call, named by a text."""
    return ev.Call(digest=f"sha256:{text}", code="code", parts={"function": "f", **parts})


def blob(value: Any) -> ev.Blob:
    """A value, as it stands in an event."""
    data = pickle.dumps(value, protocol=5)
    return ev.Blob(data=data, size=len(data))


def surveyed(job: int, what: ev.Call | None) -> list[ev.Event]:
    """A job of the workflow function, up to its survey."""
    return [
        ev.Submitting(job=job, attempt=1, key=f"r.{job}.1", survey=True),
        ev.Surveyed(job=job, attempt=1, resources=ev.Resources(), call=what),
    ]


def done(job: int, value: Any = None, **more: Any) -> list[ev.Event]:
    """The second attempt of a job, up to its end."""
    ended = ev.Succeeded(job=job, attempt=2, value=blob(value), **more)
    return [ev.Submitting(job=job, attempt=2, key=f"r.{job}.2"), ended]


def one_call(
    run: str, text: str, value: Any = 7, *, parts: dict[str, str] | None = None, **more: Any
) -> list[ev.Event]:
    """A run with one job, which makes one call."""
    return [
        created(run),
        ev.Added(job=1, kind="f", name="f(1)", cache=True),
        ev.Planned(count=1, refs=[1]),
        *surveyed(1, call(text, **(parts or {}))),
        *done(1, value, **more),
    ]


def stored(store: FileStore, run: str, data: bytes, job: int = 1, number: int = 0) -> ev.StoredFile:
    """A file that a job has written."""
    path = f"{layout.files_dir(run, job, 2)}/{number}/name"
    return ev.StoredFile(path=path, size=len(data), digest=store.write_bytes(path, data))


def ref(file: ev.StoredFile) -> FileRef:
    """The file as a value."""
    return FileRef("name", file.path, file.size, file.digest)


def cached_run(store: FileStore, run: str = "a", text: str = "x") -> list[str]:
    """A run of a call that has a file, names another job's, and has a large value. Paths of what it needs."""
    wrote, given = stored(store, run, b"wrote"), stored(store, run, b"given", job=5)
    stored(store, run, b"of nobody", job=6)
    inner = blob({"files": [ref(wrote), ref(given)]})
    path = layout.value_file(run, 1, 2)
    store.write_bytes(path, inner.data)
    store.write_bytes(layout.value_file(run, 1, 1, "body"), b"a body")
    store.write_bytes(layout.output_file(run, 1, "f", 2, "stdout"), b"printed")
    events = one_call(run, text)
    events[-1] = ev.Succeeded(job=1, attempt=2, value=ev.Blob(file=path, size=inner.size), files=[wrote])
    write(store, run, events)
    return sorted([layout.calls_file(run), path, wrote.path, given.path])


def write(store: FileStore, run: str, events: Sequence[ev.Event], close: str = "") -> None:
    """An epoch of a run's log."""
    store.create()

    async def body() -> None:
        log = await Log.open(store.local_path(layout.log_dir(run)), run=run)
        await log.append(events)
        await log.close(close or "ended")

    anyio.run(body)


def learned(store: FileStore, run: str) -> list[Learned]:
    """What a leader would have to tell."""
    return [Learned(e.job, e.call, e.kind, e.values, e.files, e.time) for e in entries(store, run)]


def everything(store: FileStore, environment: dict[str, str]) -> list[Found]:
    """What the index has after it was brought up to date, by run and job."""

    async def body() -> list[Found]:
        index = Index(store, environment)
        try:
            return sorted(await (await index.open()).all(), key=lambda one: (one.entry.run, one.entry.job))
        finally:
            await index.close()

    return anyio.run(body)


def using(store: FileStore, run: str, environment: dict[str, str], use: Callable[[CallCache], Any]) -> list[str]:
    """Have the cache of a run used; the warnings that there were."""
    warnings: list[str] = []

    async def body() -> None:
        cache = CallCache(store, run, warnings.append, environment)
        try:
            await use(cache)
        finally:
            await cache.close()

    anyio.run(body)
    return warnings


def find(store: FileStore, run: str, environment: dict[str, str], what: ev.Call) -> Reuse | None:
    """What the leader of `run` is told of a call. There must be no warning."""
    found: list[Reuse | None] = []

    async def ask(cache: CallCache) -> None:
        found.append((await cache.find([(9, what)]))[9])

    assert using(store, run, environment, ask) == []
    return found[0]


def cache_in(path: Path) -> dict[str, str]:
    """The environment in which the index is there."""
    return {"XDG_CACHE_HOME": str(path)}
