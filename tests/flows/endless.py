"""A job that waits for ever, and one that is done."""

import signal
from pathlib import Path

import orch


@orch.job
def done() -> str:
    return "done"


@orch.job
def wait(where: str, before: str) -> None:
    Path(where, "ready").touch()
    while before:
        signal.pause()


@orch.workflow
def main(where: str) -> None:
    return wait(where, done())
