"""From what the drivers have measured to figures: medians over the rounds, and how far the rounds lie apart."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Measured = dict[str, Any]
"""One line of a driver, with `round`, and `peer`: the title of the one that it is of."""


@dataclass(frozen=True)
class Figure:
    """The median, the least and the most of some rounds; `unit` is ms for a job or a link, else s."""

    median: float
    least: float
    most: float
    unit: str


@dataclass(frozen=True)
class Twice:
    """How many jobs ran again, of those that had run when the engine was killed."""

    again: int
    before: int


Cell = Figure | Twice | str
"""A text says why there is no figure."""


def cells(measured: Iterable[Measured]) -> dict[tuple[str, str], Cell]:
    """By peer and workload, what is to be shown."""
    by_kind: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for one in measured:
        by_kind[one["peer"], one["workload"]].append(one)
    return {kind: cell(kind[1], ones) for kind, ones in by_kind.items()}


def cell(workload: str, ones: list[Measured]) -> Cell:
    """What the rounds of one workload come to. Rounds that failed do not count, unless all did."""
    fine = [one for one in ones if "error" not in one]
    if workload == "kill":
        return Twice(int(fine[0]["twice"]), int(fine[0]["before"])) if fine else str(ones[0]["error"])
    rounds: dict[int, dict[int, float]] = defaultdict(dict)
    for one in fine:
        rounds[one["round"]][one["size"]] = one["seconds"]
    wanted = len({one["size"] for one in ones})
    values = [value_of(sizes) for sizes in rounds.values() if len(sizes) == wanted]
    if not values:
        return next(str(one["error"]) for one in ones if "error" in one)
    return Figure(statistics.median(values), min(values), max(values), "ms" if wanted > 1 else "s")


def value_of(sizes: dict[int, float]) -> float:
    """Seconds of the only size; of two, the milliseconds that each job of the difference takes."""
    if len(sizes) == 1:
        return next(iter(sizes.values()))
    (small, fast), (large, slow) = sorted(sizes.items())
    return max(0.0, slow - fast) / (large - small) * 1000
