"""Chains: each link writes down that it ran, and may wait in the middle of that until it is let go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orch


def _pass(gate: Any) -> None:
    """Say that it is here, and wait until it may go on."""
    said, held = gate
    Path(said).write_bytes(b".")
    with open(held, "rb", buffering=0) as file:
        file.read(1)


@orch.job(cores=0.1)
def link(where: str, number: int, before: int = 0, gate: Any = None, fails: int = 0) -> int:
    """Counts one more. Fails so often."""
    if gate:
        _pass(gate)
    if orch.context().attempt <= fails:
        raise ValueError(f"link {number} fails")
    with open(f"{where}/{number}", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    print(f"this is link {number}")  # noqa: T201 - the test reads it
    return before + 1


@orch.job(cores=0.1)
def passes_on(where: str, number: int, before: Any = None) -> orch.FileRef:
    """The same with a file."""
    text = Path(orch.context().read_file(before)).read_text() if before else "0"
    path = orch.context().scratch / "count"
    path.write_text(f"{int(text) + 1}")
    with open(f"{where}/{number}", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    print(f"this is link {number}")  # noqa: T201 - the test reads it
    return orch.context().write_file(path)


def program(where: str, number: int, before: Any = None) -> Any:
    """The same by a program."""
    count = f"echo $$ >> {where}/{number}; echo this is link {number} >&2; read n; echo $((n + 1))"
    standard = before["stdout"] if before is not None else "0\n"
    return orch.command(["sh", "-c", count], stdin=standard, cores=0.1, name=f"link {number}")


def of(form: str, where: str, number: int, before: Any, **options: Any) -> Any:
    """One link of a form."""
    if form == "command":
        return program(where, number, before)
    options = {"isolation": "pool", **options} if form == "pool" else options
    if form == "file":
        return passes_on.options(name=f"link {number}", **options)(where, number, before)
    return link.options(name=f"link {number}", **options)(where, number, 0 if before is None else before)


@orch.workflow
def line(where: str, form: str = "fork", count: int = 5) -> Any:
    """Each takes the value of the one before it."""
    before = None
    for number in range(count):
        before = of(form, where, number, before)
    return before


@orch.workflow
def children(where: str, count: int = 5) -> Any:
    """Each is a child of the one before it, and takes nothing from it."""
    last = orch.as_job(of("fork", where, 0, None))
    for number in range(1, count):
        last = last.add_child(orch.as_job(of("fork", where, number, None)))
    return last


@orch.workflow
def held(where: str, gate: Any, at: int = 2, count: int = 5, fails: int = 0, isolation: str = "fork") -> Any:
    """One of the links waits; it fails so often, and is tried once more."""
    before: Any = 0
    for number in range(count):
        options: dict[str, Any] = {"name": f"link {number}", "retries": 1, "isolation": isolation}
        mine = (gate, fails) if number == at else (None, 0)
        before = link.options(**options)(where, number, before, *mine)
    return before


@orch.job(cores=0.1)
def grows(where: str, before: int) -> Any:
    """Its value is that of a job that it makes."""
    return link.options(name="grown")(where, 2, before)


@orch.workflow
def growing(where: str) -> Any:
    """The third of five links makes a job."""
    a = link.options(name="link 0")(where, 0)
    b = link.options(name="link 1")(where, 1, a)
    c = grows.options(name="link 2")(where, b)
    d = link.options(name="link 3")(where, 3, c)
    return link.options(name="link 4")(where, 4, d)


@orch.workflow
def shapes(where: str, second: Any) -> Any:
    """A chain of two, of which the second has other options."""
    own: dict[str, Any] = {"cores": 0.2, "memory": "300 MiB", "disk": "1 MiB", "walltime": "1 min"}
    first = link.options(name="first", **own)(where, 0)
    return link.options(**{"name": "second", **own, **second})(where, 1, first)


@orch.workflow
def fork_in_the_road(where: str) -> Any:
    """The first has two successors, and the last two predecessors: nothing is a chain."""
    first = link.options(name="first")(where, 0)
    left = link.options(name="left")(where, 1, first)
    right = link.options(name="right")(where, 2, first)
    return orch.as_job(total.options(name="last")(left, right))


@orch.job(cores=0.1)
def total(*values: int) -> int:
    return sum(values)
