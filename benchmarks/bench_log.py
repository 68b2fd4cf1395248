"""The log: durable appends beside what the disk gives, reading back, opening again, and many logs at once.

    python benchmarks/bench_log.py [--json] [--events N]

"floor" is the same bytes, in the same portions, by bare write and fdatasync: no log can be faster. "/s" is by wall
time, "/CPU s" by CPU time, which depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import anyio

from orch.bus import events as ev
from orch.bus.log import Durability, Log
from orch.bus.places import Point
from orch.bus.reader import point_behind, read

Row = dict[str, float | str]


def job_events(job: int) -> list[ev.Event]:
    """What a small job leaves in the log."""
    key = f"bench.{job}.1"
    return [
        ev.Added(job=job, kind="add", name=f"add({job})", needs=[job], body=ev.Blob(data=b"x" * 120, size=120)),
        ev.Submitting(job=job, attempt=1, key=key, adapter="local"),
        ev.Submitted(job=job, attempt=1, id=str(job)),
        ev.Running(job=job, attempt=1, host="host1", pid=job, since="2030-01-02T03:04:05.678901Z"),
        ev.Succeeded(
            job=job,
            attempt=1,
            value=ev.Blob(data=b"y" * 40, size=40),
            usage=ev.Usage(wall=0.012, user=0.01, system=0.002, memory=9_000_000),
        ),
    ]


def events_of(count: int) -> list[ev.Event]:
    """So many events, of all common kinds."""
    return [event for job in range(1, count // 5 + 1) for event in job_events(job)]


async def append(directory: Path, count: int, group: int, durability: Durability) -> tuple[float, list[int]]:
    """Events a second, and the sizes of the groups in bytes."""
    log = await Log.open(directory, run="bench", durability=durability)
    events = events_of(count)
    path = directory / "000001.events.jsonl"
    sizes = [path.stat().st_size]
    begun = time.perf_counter()
    for k in range(0, len(events), group):
        await log.append(events[k : k + group])
    spent = time.perf_counter() - begun
    await log.close("ended")
    ends: dict[int, int] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        number = json.loads(line)["group"]
        ends[number] = ends.get(number, 0) + len(line)
    sizes = list(ends.values())
    return len(events) / spent, sizes


def floor(path: Path, sizes: list[int], events: int) -> float:
    """The same bytes by bare write and fdatasync: events a second."""
    portions = [b"x" * size for size in sizes]
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    begun = time.perf_counter()
    for portion in portions:
        os.write(handle, portion)
        os.fdatasync(handle)
    spent = time.perf_counter() - begun
    os.close(handle)
    return events / spent


def best(times: int, measure: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The best of some measurements: what disturbs only ever slows down."""
    found = [measure() for _ in range(times)]
    return max(f[0] for f in found), max(f[1] for f in found)


def measure_reading(directory: Path, count: int) -> tuple[float, float]:
    """Events a second read, verified and decoded: by wall time, by CPU time."""

    def once() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        found = sum(1 for _ in read(directory))
        assert found >= count
        return found / (time.perf_counter() - wall), found / (time.process_time() - cpu)

    return best(3, once)


async def written(directory: Path, count: int) -> None:
    """A log to read."""
    log = await Log.open(directory, run="bench", durability="relaxed")
    events = events_of(count)
    for k in range(0, len(events), 64):
        await log.append(events[k : k + 64])
    await log.close("ended")


async def large(directory: Path, count: int) -> float:
    """New jobs a second of CPU time, when so many are added at once."""
    log = await Log.open(directory, run="bench")
    jobs = (
        ev.Added(job=k, kind="add", name=f"add({k})", body=ev.Blob(data=b"x" * 120, size=120)) for k in range(count)
    )
    begun = time.process_time()
    async for _ in log.append_many(jobs):
        pass
    spent = time.process_time() - begun
    await log.close("ended")
    return count / spent


async def opened(directory: Path, trusted: Point | None) -> float:
    """Seconds of CPU time to open a log, and to read what is behind the trusted point."""
    begun = time.process_time()
    log = await Log.open(directory, run="bench", trusted=trusted)
    for _ in log.history(log.trusted):
        pass
    spent = time.process_time() - begun
    await log.close("left")
    return spent


async def many(directory: Path, logs: int, groups: int) -> tuple[float, float]:
    """Commits a second, by wall and by CPU time, of so many logs at once, of so many small groups each."""

    async def one(path: Path) -> None:
        log = await Log.open(path, run="bench")
        for _ in range(groups):
            await log.append(job_events(1)[1:])
        await log.close("ended")

    wall, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as tasks:
        for k in range(logs):
            tasks.start_soon(one, directory / str(k))
    commits = logs * (groups + 2)
    return commits / (time.perf_counter() - wall), commits / (time.process_time() - cpu)


def measure(place: Path, count: int) -> list[Row]:
    """All of it; `place` is an empty directory on the disk in question."""
    rows: list[Row] = []
    for group, events in ((1, count // 100), (64, count // 5)):
        rate, sizes = anyio.run(append, place / f"log{group}", events, group, "always")
        bare = floor(place / f"floor{group}", sizes, events)
        rows.append({"what": f"append, groups of {group}", "per_second": rate, "floor": bare, "of_floor": rate / bare})
    rate, _ = anyio.run(append, place / "relaxed", count // 5, 64, "relaxed")
    rows.append({"what": "append, groups of 64, relaxed", "per_second": rate})
    anyio.run(written, place / "read", count)
    wall, cpu = measure_reading(place / "read", count)
    rows.append({"what": "read, verify, decode", "per_second": wall, "per_cpu_second": cpu})
    rows.append({"what": "new jobs, very many at once", "per_cpu_second": anyio.run(large, place / "large", count)})
    for what, trusted in (("whole", None), ("behind a point", point_behind(place / "read", count + 2))):
        rows.append({"what": f"opened and read, {what}", "seconds": anyio.run(opened, place / "read", trusted)})
    logs = max(10, count // 1000)
    wall, cpu = anyio.run(many, place / "many", logs, 20)
    rows.append({"what": f"commits, {logs} logs at once", "per_second": wall, "per_cpu_second": cpu})
    return rows


COLUMNS = {
    "per_second": ("/s", 0),
    "floor": ("floor", 0),
    "of_floor": ("of floor", 2),
    "per_cpu_second": ("/CPU s", 0),
    "seconds": ("CPU s", 3),
}
"""Title and decimal places."""


def show(rows: list[Row], out: TextIO) -> None:
    """A small table."""
    print(" " * 32 + "".join(f"{title:>12}" for title, _ in COLUMNS.values()), file=out)
    for row in rows:
        cells = [f"{row[name]:12,.{places}f}" if name in row else " " * 12 for name, (_, places) in COLUMNS.items()]
        print(f"{row['what']:32}{''.join(cells)}".rstrip(), file=out)


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure, print, and give the rows."""
    parser = argparse.ArgumentParser(description="Appends and reads of the log.")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--events", type=int, default=200_000, help="size of the log that is read")
    parser.add_argument("--dir", type=Path, default=None, help="on the disk to measure (default: the temporary one)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        rows = measure(Path(place), options.events)
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        show(rows, sys.stdout)
    return rows


if __name__ == "__main__":
    main()
