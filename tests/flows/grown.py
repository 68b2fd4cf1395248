"""Graphs of any size, for counting what jobs cost."""

import orch


@orch.job(cores=1)
def same(number: int | None) -> int | None:
    return number


@orch.job(cores=1)
def waits(number: int | None) -> int | None:
    return number


@orch.workflow
def apart(jobs: int) -> list[int | None]:
    return [same(number) for number in range(jobs)]


@orch.workflow
def chain(jobs: int) -> int | None:
    number = same(0)
    for _ in range(jobs - 1):
        number = same(number)
    return number


@orch.workflow
def gate(jobs: int, waiting: int) -> list[int | None]:
    """So many jobs apart; others that wait for the last of them, which is the last to start."""
    made = [same(number) for number in range(jobs)]
    return made + [waits(made[-1]) for _ in range(waiting)]
