"""Services and checkpoints to which something bad happens, or that behave badly."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import orch

FOR_EVER = 600.0
"""Seconds: longer than any test."""


def say(said: str, line: str) -> None:
    """Add a line to a file that all write to."""
    with Path(said).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


class Bad(orch.Service):
    """Says what becomes of it; `hangs` in one of its methods. `size`: bytes of its credentials."""

    def __init__(self, said: str, hangs: str = "", size: int = 0, retries: int = 0) -> None:
        super().__init__(cores=0.1, check_interval="0.02s", retries=retries)
        self.said = said
        self.hangs = hangs
        self.size = size

    def start(self) -> dict[str, Any]:
        orch.context().defer(say, self.said, "deferred")
        self._does("start")
        return {"pid": os.getpid(), "large": b"x" * self.size}

    def check(self) -> None:
        if self.hangs == "check":
            self._does("check")

    def stop(self) -> None:
        self._does("stop")

    def _does(self, what: str) -> None:
        say(self.said, f"{what} {os.getpid()}")
        if self.hangs == what:
            time.sleep(FOR_EVER)  # hung, as it were


@orch.job(cores=0.1)
def nothing() -> None:
    """Services are for it."""


@orch.job(cores=0.1)
def kills(said: str, service: dict[str, Any]) -> int:
    """Kills the first service that it gets, and fails because of that."""
    if Path(said).read_text(encoding="utf-8").count("start") == 1:
        with open(os.pidfd_open(service["pid"])) as process:
            signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)
            select.select([process], [], [])
        raise ConnectionError("the service is not there")
    return len(service["large"])


@orch.job(cores=0.1)
def size(said: str, service: dict[str, Any], until: str) -> int:
    """Once that has been said."""
    while until not in Path(said).read_text(encoding="utf-8"):
        time.sleep(0.005)  # the service is another process, and has no other way to tell
    return len(service["large"])


@orch.workflow
def killed(said: str) -> Any:
    """By the job that uses it, which has no second try."""
    host = orch.as_job(nothing())
    return host.add_child(kills(said, host.add_service(Bad(said, retries=1))))


@orch.workflow
def bad(said: str, hangs: str = "", large: int = 0) -> Any:
    """One job uses a service that behaves badly."""
    host = orch.as_job(nothing())
    return host.add_child(size(said, host.add_service(Bad(said, hangs, large)), "check" if hangs == "check" else ""))


@orch.job(cores=0.1)
def first_fails(said: str, name: str, service: Any = None) -> str:
    """The first time that it is called with this name. The service is there."""
    if service is not None:
        os.kill(service["pid"], 0)
    say(said, name)
    if Path(said).read_text(encoding="utf-8").splitlines().count(name) == 1:
        raise RuntimeError("the first time")
    return name


@orch.job(cores=0.1, checkpoint=True, retries=1)
def inner(said: str) -> Any:
    say(said, "inner")
    return orch.context().add_child(first_fails(said, "below"))


@orch.job(cores=0.1, checkpoint=True, retries=1)
def outer(said: str) -> Any:
    """Has a checkpoint below it, which is well at its second try; and what follows fails once."""
    say(said, "outer")
    here = orch.context()
    made = here.add_child(inner(said))
    return [made, here.add_follow_on(first_fails(said, "after"))]


@orch.workflow
def nested(said: str) -> Any:
    return outer(said)


@orch.job(cores=0.1, checkpoint=True, retries=1)
def serviced(said: str) -> Any:
    here = orch.context()
    return here.add_child(first_fails(said, "used", here.add_service(Bad(said))))


@orch.workflow
def rewound(said: str) -> Any:
    """A service below a checkpoint that runs again."""
    return serviced(said)


@orch.job(cores=0.1, isolation="pool")
def pooled(number: int) -> int:
    return number + 1


@orch.job(cores=0.1)
def forked(number: int) -> int:
    return number + 1


@orch.workflow
def chained() -> Any:
    """Links of all kinds, one after the other."""
    number: Any = 0
    for job in (forked, pooled, forked, forked, pooled, pooled, forked):
        number = job(number)
    return orch.command(["echo", number], cores=0.1)["stdout"]
