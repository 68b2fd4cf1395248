"""A job that waits for ever, and one that is done."""

import time
from pathlib import Path

import orch


@orch.job
def done() -> str:
    return "done"


@orch.job
def wait(where: str, before: str) -> None:
    Path(where, "ready").touch()
    time.sleep(1000 if before else 0)


@orch.workflow
def main(where: str) -> None:
    return wait(where, done())
