"""Jobs that take values, for tests of chains and services through the agent: templates import this module."""

from __future__ import annotations

import os
from typing import Any

import msgspec

import orch
from orch.attempt import Attempt
from support.agents import View
from support.attempts import gather
from support.jobs import touch


def pass_on(said: str, held: str) -> None:
    """Say that we are here, and wait for a byte in the pipe `held`."""
    touch(said)
    descriptor = os.open(held, os.O_RDONLY)
    os.read(descriptor, 1)
    os.close(descriptor)


@orch.job
def first(said: str, held: str, value: int) -> int:
    """Say that it runs, wait until it may go on, and give `value`."""
    pass_on(said, held)
    return value


@orch.job
def plus(number: int, more: int) -> int:
    print(f"{number} plus {more} in {os.getpid()}")  # noqa: T201 - the test reads it
    return number + more


@orch.job
def fails(said: str, held: str) -> int:
    pass_on(said, held)
    raise ValueError("no")


@orch.job
def makes(said: str, held: str) -> Any:
    pass_on(said, held)
    return plus(1, 2)


def chain(view: View, job: Any, form: str = "fork", **changes: Any) -> list[Attempt]:
    """The attempts at all jobs of a graph that is a line, each chained to the one before."""
    found: list[Attempt] = []
    for new in gather(job).jobs:
        attempt = view.attempt(form, new.body.data, name=f"link {len(found)}", **changes)
        before = [found[-1].job] if new.needs else []
        attempt = msgspec.structs.replace(attempt, needs=before, after=found[-1].key if found else "")
        found.append(attempt)
    return found
