"""Milliseconds a link of a chain: jobs that do nothing but take the value before theirs, everything durable.

A figure is the cost of one more link: what a long chain takes longer than a short one, which leaves the start out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from flow_shapes import chain
from report import Row, main, scratch

import orch

SHORT, LONG = 100, 400
ROUNDS = 3
GOALS = {("fork", True): "<= 1.5", ("fork", False): "<= 3, and its syncs"}


def seconds(directory: Path, form: str, links: int, *, chaining: bool) -> float:
    """One run, from planning to its result."""
    started = time.perf_counter()
    settings = {"chaining": chaining}
    assert orch.run(chain, form=form, links=links, store=directory, settings=settings) == links
    return time.perf_counter() - started


def per_link(directory: Path, form: str, *, chaining: bool) -> float:
    """Milliseconds, the median of some rounds; one agent, which the first run starts, serves them all."""
    seconds(directory, form, 2, chaining=chaining)
    found = [
        seconds(directory, form, LONG, chaining=chaining) - seconds(directory, form, SHORT, chaining=chaining)
        for _ in range(ROUNDS)
    ]
    return statistics.median(found) / (LONG - SHORT) * 1000


def measure() -> Iterator[Row]:
    """Links in one place, and links handed over one by one."""
    with scratch() as directory:
        for form in ("pool", "fork"):
            for chaining in (True, False):
                cost = per_link(directory / form, form, chaining=chaining)
                name = f"a link of a chain, {form}, {'chained' if chaining else 'unchained'}"
                yield Row(name, cost, "ms", GOALS.get((form, chaining), ""))


if __name__ == "__main__":
    main(measure, __doc__)
