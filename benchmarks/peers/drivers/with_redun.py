"""redun, from the shell: its tasks run in threads, its data base is a file of SQLite."""

from __future__ import annotations

import os
from pathlib import Path

from common import Workload, beside, call, drive, fresh, killed

FLOW = str(Path(__file__).with_name("flow_redun.py"))
QUIET = {"REDUN_CONFIG": ".redun"}


def command(task: str, size: int) -> list[str]:
    """What a user types."""
    return [beside("redun"), "run", FLOW, task, "--size", str(size)]


def of(task: str) -> Workload:
    """One run, in an empty data base."""

    def workload(size: int) -> None:
        before = Path.cwd()
        os.chdir(fresh("redun"))
        try:
            call(*command(task, size))
        finally:
            os.chdir(before)

    return workload


def lives(_place: Path, size: int) -> list[list[str]]:
    """Started, and started again: what is in its data base need not run again."""
    return [command("life", size)] * 2


if __name__ == "__main__":
    drive(
        None, {"jobs": of("jobs"), "chain": of("chain"), "tree": of("tree"), "one": of("jobs"), "kill": killed(lives)}
    )
