"""From attempts to submissions: which go together, and what is asked for them. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from orch.adapters.batch.choices import Choices
from orch.adapters.batch.dialect import Order
from orch.attempt import Attempt

MARGIN = 60.0
"""Seconds beyond a job's own wall time that are asked for: the worker enforces that, and has to leave an outcome."""

MOST_LABEL = 200
"""Characters."""

Alike = tuple[object, ...]


class Portion(NamedTuple):
    """What is submitted together: attempts, and the order for them but for what only the spool knows."""

    attempts: list[Attempt]
    order: Order


def portions(attempts: Iterable[Attempt], choices: Choices, most_tasks: int, grace: float) -> list[Portion]:
    """Attempts that ask for the same together, `most_tasks` at most; the most urgent first, else as they came.

    Name, script and log are left empty in the orders.
    """
    groups: dict[Alike, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda each: -each.priority):
        groups.setdefault(_alike(attempt), []).append(attempt)
    size = max(1, most_tasks)
    return [
        Portion(part, _order(part, choices, grace))
        for group in groups.values()
        for part in (group[first : first + size] for first in range(0, len(group), size))
    ]


def _alike(attempt: Attempt) -> Alike:
    asked = attempt.resources
    return (attempt.priority, msgspec.structs.replace(asked, cores=float(_whole(asked.cores))))


def _whole(cores: float) -> int:
    return max(1, math.ceil(cores))


def _order(attempts: Sequence[Attempt], choices: Choices, grace: float) -> Order:
    first = attempts[0]
    asked = first.resources
    return Order(
        name="",
        label=_label(attempts),
        size=len(attempts),
        script="",
        log="",
        cores=_whole(asked.cores),
        memory=asked.memory + choices.overhead if asked.memory and choices.pass_memory else 0,
        disk=asked.disk,
        walltime=asked.walltime + MARGIN if asked.walltime else 0.0,
        accelerators=asked.accelerators,
        preemptible=asked.preemptible,
        priority=first.priority,
        queue=asked.queue,
        backend=asked.backend,
        grace=grace,
    )


def _label(attempts: Sequence[Attempt]) -> str:
    """What people see in the queue: the job's name, or what most of many are."""
    first = attempts[0]
    if len(attempts) == 1:
        return (first.name or first.kind)[:MOST_LABEL]
    return f"{first.kind} ({len(attempts)} jobs)"[-MOST_LABEL:]


def order_name(store: str, run: str, submission: str) -> str:
    """What the batch system calls a submission: unlike that of any other, of whatever store and run."""
    digest = hashlib.sha256(f"{store}\0{run}".encode()).hexdigest()
    return f"o-{digest[:8]}-{submission}"
