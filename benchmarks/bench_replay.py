"""Replay: events/s from the files of a finished run to its state, in one cold process."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import anyio

from orch.bus import events as ev
from orch.bus.log import Log
from orch.bus.reader import read
from orch.history import fold_quickly
from orch.state.decide import attempt_key


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


def measure(jobs: int, rounds: int) -> dict[str, float]:
    """Events/s for decoding alone, and for decoding and folding."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "log"
        events = anyio.run(write_log, directory, jobs)
        size = sum(file.stat().st_size for file in directory.iterdir())
        decode = min(_timed(lambda: sum(1 for _ in read(directory))) for _ in range(rounds))
        whole = min(_timed(lambda: fold_quickly(read(directory))) for _ in range(rounds))
    return {
        "events": events,
        "bytes a job": size / jobs,
        "decode events/s": events / decode,
        "replay events/s": events / whole,
    }


def _timed(what: object) -> float:
    assert callable(what)
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure(args.jobs, args.rounds)
    print(
        json.dumps(figures) if args.json else "\n".join(f"{name:<20}{value:>14,.0f}" for name, value in figures.items())
    )


if __name__ == "__main__":
    main()
