"""Small workflows."""

from pathlib import Path

import orch


@orch.job(isolation="pool", cores=0.1)
def one(number: int, offset: int) -> int:
    return number + offset


@orch.job
def total(numbers: list[int]) -> int:
    return sum(numbers)


@orch.workflow
def main(number: int = 1) -> int:
    return total([one(number, offset) for offset in range(10)])


@orch.job
def must_exist(path: str) -> str:
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return "there"


@orch.job
def beside() -> str:
    return "beside"


@orch.job
def join(first: str, second: str) -> list[str]:
    return [first, second]


@orch.workflow
def needs_file(path: str) -> list[str]:
    return join(must_exist(path), beside())


@orch.job
def told(path: str) -> str:
    return Path(path).read_text()


@orch.workflow
def waits(path: str) -> tuple[int, str]:
    """One job lives until something is written to the pipe at `path`."""
    return total([one(0, offset) for offset in range(10)]), told(path)
