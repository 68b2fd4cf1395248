"""Toil, from the shell: each job in a process of its own; links of a chain share one."""

from __future__ import annotations

import sys
from pathlib import Path

from common import Workload, call, drive, fresh, killed

FLOW = str(Path(__file__).with_name("flow_toil.py"))


def command(place: Path, task: str, size: int, *options: str) -> list[str]:
    """What a user types."""
    return [sys.executable, FLOW, task, str(size), str(place / "store"), *options]


def of(task: str) -> Workload:
    """One run, with a job store of its own."""
    return lambda size: void(call(*command(fresh("toil"), task, size)))


def void(_: str) -> None:
    """What it prints is of no interest."""


def lives(place: Path, size: int) -> list[list[str]]:
    """Started, and restarted."""
    return [command(place, "life", size), command(place, "life", size, "--restart")]


if __name__ == "__main__":
    drive(
        None, {"jobs": of("jobs"), "chain": of("chain"), "tree": of("tree"), "one": of("jobs"), "kill": killed(lives)}
    )
