"""Jobs that count their own executions: each appends a line to a file named after itself."""

import os
import time
from pathlib import Path

import orch


@orch.job(cores=0.01)
def work(where: str, number: int, seconds: float) -> int:
    time.sleep(seconds)  # the work: how long it takes is the parameter, and nothing waits for it by a clock
    with (Path(where) / str(number)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return number


@orch.job(cores=0.01)
def total(parts: list[int]) -> int:
    return sum(parts)


@orch.workflow
def main(where: str, jobs: int = 30, seconds: float = 0.1) -> int:
    numbers = [work(where, number, seconds) for number in range(jobs)]
    return total([total(numbers[start : start + 20]) for start in range(0, jobs, 20)])
