"""Replay: events/s from the files of a finished run to its state, in one cold process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
from report import Row, main

from orch.bus import events as ev
from orch.bus.log import Log
from orch.bus.reader import read
from orch.history import replay_state
from orch.state.decide import attempt_key

JOBS = 50_000
ROUNDS = 5


async def write_log(directory: Path, jobs: int) -> int:
    """The log of a run of independent jobs, five events a job; the number of its events."""
    log = await Log.open(directory, run="bench", durability="relaxed")
    added = [
        ev.Added(job=job, kind="noop", name=f"noop({job})", body=ev.Blob(data=b"x" * 60, size=60))
        for job in range(1, jobs + 1)
    ]
    await log.append([ev.Created(run="bench"), *added, ev.Planned(count=jobs)])
    value = ev.Blob(data=b"\x80\x05N.", size=4)
    for job in range(1, jobs + 1):
        log.stage(
            [
                ev.Submitting(job=job, attempt=1, key=attempt_key("bench", job, 1), adapter="local"),
                ev.Submitted(job=job, attempt=1, id="1234"),
                ev.Running(job=job, attempt=1, host="localhost", pid=1234, since="2026-01-01T00:00:00.000000Z"),
                ev.Succeeded(job=job, attempt=1, value=value, usage=ev.Usage(wall=0.001, user=0.001)),
            ]
        )
        if job % 16 == 0:
            await log.commit()
    await log.append([ev.Ended(outcome="succeeded")])
    await log.close("ended")
    return log.last_seq


def measure() -> Iterator[Row]:
    """Events/s for reading alone, and for reading and folding: what `orch replay` does."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "log"
        events = anyio.run(write_log, directory, JOBS)
        size = sum(file.stat().st_size for file in directory.iterdir())
        read_alone = min(_timed(lambda: sum(1 for _ in read(directory))) for _ in range(ROUNDS))
        whole = min(_timed(lambda: replay_state(directory)) for _ in range(ROUNDS))
    yield Row("replay", events / whole, "events/s", ">= 500000", f"{events:,} events; best of {ROUNDS}")
    yield Row("replay, reading alone", events / read_alone, "events/s", ">= 1100000", "read, verify, decode")
    yield Row("log", size / JOBS, "bytes/job")


def _timed(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(measure, __doc__)
