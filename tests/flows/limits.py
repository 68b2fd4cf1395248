"""Jobs that want more than they asked for."""

import signal
from typing import Any

import orch


@orch.job(memory="64 MiB")
def greedy() -> int:
    return len(bytearray(400 * 1024 * 1024).replace(b"\0", b"x"))


@orch.job(walltime=0.3)
def slow() -> None:
    while True:
        signal.pause()


@orch.job
def fine() -> str:
    return "fine"


@orch.job
def after(value: object) -> object:
    return value


@orch.workflow
def main(isolation: str = "fork") -> list[object]:
    how: dict[str, Any] = {"isolation": isolation}
    return [after(greedy.options(**how)()), after(slow.options(**how)()), fine.options(**how)()]
