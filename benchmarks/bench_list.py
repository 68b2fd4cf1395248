"""Looking: `orch list` of a store with 10,000 runs, and `orch status` of a run of many jobs that has ended.

The logs are written by the real log without syncs, and the summaries by what a leader writes them with. The folds,
which is what both would take without summaries, are measured on a part. BENCH_JOBS=1000000 takes minutes to write.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
from bench_replay import write_log
from report import Row, main, scratch

from orch.history import fold_quickly
from orch.leader.summarizing import summary_of
from orch.store.file import FileStore
from orch.store.runs import new_run_id
from orch.summaries import NAME, place_of, write

ORCH = str(Path(sys.executable).with_name("orch"))
RUNS = 10_000
FOLDED = 500
JOBS = int(os.environ.get("BENCH_JOBS", "100000"))
ROUNDS = 5


def keep_summary(log: Path) -> None:
    """As the leader does at the end."""
    write(log, summary_of(fold_quickly(log), place_of(log, 1)))


def timed(*arguments: str) -> float:
    """Seconds of an `orch` command, the median of some."""
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([ORCH, *arguments], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def many_runs(store: FileStore, first: Path, count: int, *, summaries: bool) -> None:
    """Copies of a small run, each under a name of its own."""
    for number in range(count):
        run = store.local_path(f"runs/{new_run_id(1_700_000_000 + number)}")
        shutil.copytree(first, run)
        if not summaries:
            (run / NAME).unlink()


def listing(directory: Path, count: int, *, summaries: bool) -> float:
    """Seconds of `orch list` with so many runs."""
    store = FileStore(directory / f"list-{count}-{summaries}")
    store.create()
    first = directory / "small"
    if not first.exists():
        anyio.run(write_log, first / "log", 20)
        keep_summary(first / "log")
        (first / "lock").touch()
    many_runs(store, first, count, summaries=summaries)
    return timed("list", "--store", str(store.root))


def measure() -> Iterator[Row]:
    """Seconds for each way to look."""
    with scratch() as directory:
        yield Row(f"orch list, {RUNS:,} runs", listing(directory, RUNS, summaries=True), "s", "<= 1")
        folded = listing(directory, FOLDED, summaries=False)
        yield Row(f"orch list, {FOLDED:,} runs without summaries", folded, "s", note="each is folded")
        store = FileStore(directory / "large")
        store.create()
        log = store.local_path("runs/large/log")
        anyio.run(write_log, log, JOBS)
        started = time.perf_counter()
        keep_summary(log)
        yield Row(f"fold of {JOBS:,} jobs", time.perf_counter() - started, "s", note="what status took before")
        yield Row(f"orch status, {JOBS:,} jobs", timed("status", "--store", str(store.root)), "s", "<= 1")


if __name__ == "__main__":
    main(measure, __doc__)
