"""Jobs that say that they run and wait until they may go on, and ones that tell what they were given."""

from __future__ import annotations

import os
from typing import Any

import orch


def _write(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, b".")
    os.close(descriptor)


def _read(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.read(descriptor, 1)
    os.close(descriptor)


@orch.job
def gated(said: str, held: str) -> None:
    """Says that it runs, and ends when there is a byte for it."""
    _write(said)
    _read(held)


@orch.job
def given() -> Any:
    """The resources of this attempt."""
    return orch.context().resources


@orch.workflow
def many(said: str, held: str, jobs: int = 5, options: Any = None) -> Any:
    """Several of the same shape."""
    return [gated.options(**(options or {}))(said, held) for _ in range(jobs)]


@orch.workflow
def resources(options: Any) -> Any:
    return given.options(**options)()


@orch.workflow
def one_after_the_other(said: str, held: str, priorities: Any) -> Any:
    """The first holds the only place until the others wait."""
    first = gated.options(name="first", cores=0.5, priority=100)(said, held)
    return [first, *(given.options(name=f"p{each}", cores=0.5, priority=each)() for each in priorities)]


@orch.workflow
def large_and_small(said: str, held: str) -> Any:
    """One has half of the room, the next wants all of it, and the last the other half."""
    first = gated.options(name="first", cores=0.25)(said, held)
    return [first, given.options(name="large", cores=0.5)(), given.options(name="small", cores=0.25)()]


# Accelerators ---------------------------------------------------------------------------------------------------------

SHOWN = ("ORCH_ACCELERATORS_GIVEN", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@orch.job(cores=0.1)
def visible(mine: str = "", other: str = "") -> list[str]:
    """What this attempt may use; two of these are there at once."""
    if mine < other:
        _write(mine)
        _read(other)
    elif mine:
        _read(other)
        _write(mine)
    return [os.environ.get(name, "none") for name in SHOWN]


def visible_program(mine: str = "", other: str = "", **options: Any) -> Any:
    """The same by a program."""
    meet = f"echo . > {mine}; read x < {other}; " if mine < other else f"read x < {other}; echo . > {mine}; "
    show = "; ".join(f"echo ${{{name}-none}}" for name in SHOWN)
    return orch.command(["sh", "-c", (meet if mine else "") + show], cores=0.1, **options)["stdout"]


@orch.workflow
def devices(form: str, pipes: Any, wanted: Any) -> Any:
    """Two that want accelerators and are there at once, and one that wants none."""
    if form == "command":
        both = [visible_program(mine, other, accelerators=wanted) for mine, other in (pipes, pipes[::-1])]
        return [*both, visible_program()]
    options: dict[str, Any] = {"isolation": form}
    both = [visible.options(accelerators=wanted, **options)(mine, other) for mine, other in (pipes, pipes[::-1])]
    return [*both, visible.options(**options)()]


@orch.workflow
def too_many(wanted: Any) -> Any:
    return visible.options(accelerators=wanted, name="greedy")()
