"""A tree of 511 jobs that make each other while the run goes on, everything durable, in forks and in warm workers.

Beside the whole run, from planning to the result, stands what it takes longer than a tree of a single job.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from flow_shapes import tree
from report import Row, main, scratch

import orch

DEPTH = 8
JOBS = 2 ** (DEPTH + 1) - 1
ROUNDS = 3
GOALS = {"pool": "<= 0.5", "fork": "<= 1.0"}


def seconds(directory: Path, form: str, depth: int) -> float:
    """One run, from planning to its result."""
    started = time.perf_counter()
    orch.run(tree, form=form, depth=depth, store=directory)
    return time.perf_counter() - started


def measure() -> Iterator[Row]:
    """Medians of some rounds; one agent, which the first run starts, serves them all."""
    with scratch() as directory:
        for form, goal in GOALS.items():
            seconds(directory / form, form, 0)
            whole = [seconds(directory / form, form, DEPTH) for _ in range(ROUNDS)]
            single = [seconds(directory / form, form, 0) for _ in range(ROUNDS)]
            jobs = statistics.median(whole) - statistics.median(single)
            yield Row(f"a tree of {JOBS} jobs, {form}", statistics.median(whole), "s", note="the whole run")
            yield Row(f"a tree of {JOBS} jobs, {form}, beyond one job", jobs, "s", goal)


if __name__ == "__main__":
    main(measure, __doc__)
