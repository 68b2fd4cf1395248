"""The workloads for Toil: python flow_toil.py WORKLOAD SIZE STORE [--restart]."""

from __future__ import annotations

import os
import sys
from typing import Any

from common import AT_ONCE, append_line
from toil.common import Toil
from toil.job import Job

SMALL = {"memory": "10M", "disk": "1M", "cores": 1}


def nothing(_job: Any) -> None:
    """A job."""


def line(_job: Any, path: str) -> None:
    """A job whose runs are counted."""
    append_line(path)


def jobs(job: Any, size: int) -> None:
    """Jobs apart."""
    for _ in range(size):
        job.addChildJobFn(nothing, **SMALL)


def life(job: Any, size: int, path: str) -> None:
    """Jobs apart that are counted."""
    for _ in range(size):
        job.addChildJobFn(line, path, **SMALL)


def chain(job: Any, size: int) -> None:
    """Each after the one before it."""
    for _ in range(size):
        job = job.addChildJobFn(nothing, **SMALL)


def tree(job: Any, size: int) -> None:
    """A job that makes two."""
    for _ in range(2 if size > 1 else 0):
        job.addChildJobFn(tree, size // 2, **SMALL)


def main() -> None:
    """The command line."""
    name, size, store, *restart = sys.argv[1:]
    options = Job.Runner.getDefaultOptions(store)
    options.logLevel = "ERROR"
    options.maxCores = AT_ONCE
    options.restart = bool(restart)
    arguments = [os.path.abspath("lines")] if name == "life" else []
    with Toil(options) as toil:
        if options.restart:
            toil.restart()
        else:
            toil.start(Job.wrapJobFn(globals()[name], int(size), *arguments, **SMALL))


if __name__ == "__main__":
    main()
