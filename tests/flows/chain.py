"""A chain of jobs, each of which needs the one before it: a leader gets on by one job at a time, at most."""

import os
from pathlib import Path

import orch


@orch.job(cores=0.1)
def link(where: str, number: int) -> int:
    with Path(where, str(number)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return number + 1


@orch.workflow
def main(where: str, jobs: int) -> int:
    number = link(where, 0)
    for _ in range(jobs - 1):
        number = link(where, number)
    return number
