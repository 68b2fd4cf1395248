"""The workloads for orch."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import orch


@orch.job
def same(number: int) -> int:
    """A job."""
    return number


@orch.job
def line(path: str) -> None:
    """A job whose runs are counted."""
    with open(path, "a") as file:
        file.write("x\n")


@orch.job
def grow(size: int, form: str) -> Any:
    """A job that makes two."""
    job = grow.options(isolation=form)
    return [job(size // 2, form) for _ in range(2 if size > 1 else 0)]


@orch.workflow
def main(what: str = "jobs", form: str = "fork", size: int = 1) -> Any:
    """The workload WHAT of SIZE jobs, in the form command, fork or pool."""
    if what == "tree":
        return grow.options(isolation=form)(size, form)
    chain = what == "chain"
    if form == "command":
        return commands(what, size)
    if what == "life":
        return [line.options(isolation=form)(os.path.abspath("lines")) for _ in range(size)]
    job = same.options(isolation=form)
    number: Any = 7
    made = [number := job(number if chain else k) for k in range(size)]
    return made[-1] if chain else made


def commands(what: str, size: int) -> Any:
    """The same of programs."""
    script = f"echo x >> {os.path.abspath('lines')}"
    made = [orch.command(["sh", "-c", script] if what == "life" else ["true"]) for _ in range(size)]
    if what != "chain":
        return made
    for before, after in pairwise(made):
        before.add_child(after)
    return made[0]
