"""Runs whose logs are written by hand: a store with a run in it, without a leader ever having been there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from orch.bus import events as ev
from orch.bus.log import Log
from orch.store import layout
from orch.store.file import FileStore


def created(run: str, name: str = "", tags: dict[str, str] | None = None) -> ev.Created:
    """The beginning of a run."""
    return ev.Created(run=run, name=name, tags=tags or {}, source="wf.py", bundle="sha256-one", cwd="/")


def started(job: int, attempt: int = 1, run: str = "r") -> list[ev.Event]:
    """Events up to a running attempt."""
    return [
        ev.Submitting(job=job, attempt=attempt, key=f"{run}.{job}.{attempt}", adapter="local"),
        ev.Submitted(job=job, attempt=attempt, id=f"x{job}"),
        ev.Running(job=job, attempt=attempt, host="here", pid=4711),
    ]


def text(data: str) -> ev.Blob:
    """Captured output."""
    return ev.Blob(data=data.encode(), size=len(data.encode()))


def mixed(run: str = "r") -> list[ev.Event]:
    """A run midway: 1 done, 2 failed on its second try, 3 skipped, 4 running, 5 waits for 4, 6 ready, 7 waits for 5."""
    return [
        created(run, "mixed", {"who": "me"}),
        ev.Added(job=1, kind="fetch", name="fetch one", retries=0),
        ev.Added(job=2, kind="align", retries=1),
        ev.Added(job=3, kind="merge", needs=[1, 2]),
        ev.Added(job=4, kind="slow", resources=ev.Resources(cores=2, memory=1 << 30)),
        ev.Added(job=5, kind="after", needs=[4]),
        ev.Added(job=6, kind="fetch", name="fetch two"),
        ev.Added(job=7, kind="last", needs=[5]),
        ev.Planned(count=7, refs=[3, 7, 6]),
        *started(1, run=run),
        ev.Logged(job=1, attempt=1, text="half way"),
        ev.Annotated(job=1, attempt=1, name="records", value=12),
        ev.Succeeded(
            job=1, attempt=1, usage=ev.Usage(wall=1.5, memory=1 << 20), stdout=text("out 1\n"), stderr=text("err 1\n")
        ),
        *started(2, run=run),
        ev.Retrying(
            job=2, attempt=1, reason="FAILED", charged=True, exit_code=3, message="first", stderr=text("try 1\n")
        ),
        *started(2, 2, run=run),
        ev.Failed(
            job=2,
            attempt=2,
            reason="FAILED",
            exit_code=4,
            message="ValueError: bad header",
            stdout=text("some\n"),
            stderr=text("".join(f"line {n}\n" for n in range(60))),
        ),
        *started(4, run=run),
        ev.Warned(message="job spare was made and never used"),
    ]


def write_run(root: Path, run: str, events: Sequence[ev.Event], close: str = "") -> Path:
    """Write a run's log into the store at `root`; gives its directory. `close`: the reason, empty: not closed."""
    store = FileStore(root)
    store.create()
    directory = store.local_path(layout.log_dir(run))

    async def write() -> None:
        log = await Log.open(directory, run=run)
        for event in events:
            await log.append([event])
        if close:
            await log.close(close)

    anyio.run(write)
    return directory
