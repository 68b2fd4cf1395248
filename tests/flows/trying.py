"""Jobs that fail in many ways, and what comes after them. What an attempt does follows from its number."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import orch


class Trouble(Exception):
    """An exception of the user's own."""


class Flood(Trouble):
    """Derived from that."""


def write(path: str, text: str) -> None:
    """Add a line to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def fail(how: str) -> None:
    """End this attempt."""
    if how == "flood":
        raise Flood("the river rose")
    if how == "value":
        raise ValueError("no such value")
    if how == "unicode":
        raise UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range")
    if how == "exit":
        sys.exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(how)


def hang() -> None:
    """Until somebody ends this process."""
    while True:
        signal.pause()


@orch.job(cores=0.1)
def flaky(how: str = "value", fails: int = 1, value: Any = "fine", *_needed: Any) -> Any:
    """Fails `fails` times."""
    if orch.context().attempt <= fails:
        fail(how)
    return value


@orch.workflow
def one(how: str = "value", fails: int = 1, options: Any = None) -> Any:
    return flaky.options(**(options or {}))(how, fails)


@orch.workflow
def several(count: int = 20) -> Any:
    return [flaky.options(name=f"f{number}")() for number in range(count)]


@orch.workflow
def failing(cases: Any) -> Any:
    """For each way to fail, and options: a job that does so once."""
    return [flaky.options(name=f"case {number}", **options)(how) for number, (how, options) in enumerate(cases)]


@orch.workflow
def programs(cases: Any) -> Any:
    """For each script, and options: a program."""
    return [
        orch.command(["sh", "-c", script], cores=0.1, name=f"case {number}", **options)
        for number, (script, options) in enumerate(cases)
    ]


# More of what was not enough ------------------------------------------------------------------------------------------


@orch.job(memory="64 MiB", cores=0.1)
def large() -> int | None:
    """Takes some 150 MiB in all."""
    data = bytearray(120 << 20).replace(b"\0", b"x")
    assert len(data) == 120 << 20
    return orch.context().resources.memory


@orch.job(walltime=0.3, cores=0.1)
def slow(enough: int = 2) -> float | None:
    """Does not end before attempt `enough`."""
    while orch.context().attempt < enough:
        signal.pause()
    return orch.context().resources.walltime


@orch.workflow
def greedy(options: Any) -> Any:
    return large.options(**options)()


@orch.workflow
def late(options: Any, enough: int = 2) -> Any:
    return slow.options(**options)(enough)


@orch.job(cores=0.1)
def endless() -> None:
    hang()


@orch.workflow
def forever() -> Any:
    return endless.options(retries=1)()


# What depends on what failed ------------------------------------------------------------------------------------------


@orch.workflow
def climbing() -> Any:
    """Something fails at the bottom, and something else has nothing to do with it."""
    bad = flaky.options(name="bad")("value", 9)
    user = flaky.options(name="user")("", 0, 1, bad)
    further = flaky.options(name="further")("", 0, 1, user)
    parent = orch.as_job(flaky.options(name="parent")("", 0))
    child = parent.add_child(orch.as_job(flaky.options(name="child")("value", 9)))
    child.add_child(orch.as_job(flaky.options(name="grandchild")("", 0)))
    parent.add_follow_on(orch.as_job(flaky.options(name="follow-on")("", 0)))
    sibling = parent.add_child(orch.as_job(flaky.options(name="sibling")("", 0)))
    other = flaky.options(name="other")("", 0)
    return [further, sibling, flaky.options(name="after other")("", 0, 1, other)]


@orch.workflow
def first_failure(pipe: str) -> Any:
    """One fails while another runs, for which there is no other end."""
    bad = flaky.options(name="bad")("value", 9, 1, tells(pipe))
    return [bad, hangs.options(name="hangs")(pipe), flaky.options(name="after")("", 0, 1, bad)]


@orch.job(cores=0.1)
def tells(pipe: str) -> None:
    """Ends once `hangs` runs."""
    Path(pipe).read_bytes()


@orch.job(cores=0.1)
def hangs(pipe: str) -> None:
    """Says that it runs, and never ends."""
    Path(pipe).write_bytes(b".")
    hang()


# Checkpoints ----------------------------------------------------------------------------------------------------------


@orch.job(cores=0.1, checkpoint=True, retries=2)
def point(where: str, bad_until: int, inner: int = 0, live: bool = True) -> str:
    """Makes a subtree with something in it that fails in the first `bad_until` lives of the checkpoint."""
    life = orch.context().attempt
    write(f"{where}/lives", f"{life}")
    orch.context().add_child(made.options(name=f"made {life}")(where, life, bad_until, inner, live))
    orch.context().add_follow_on(flaky.options(name=f"after all {life}")("", 0))
    return f"value of life {life}"


@orch.job(cores=0.1)
def made(where: str, life: int, bad_until: int, inner: int, live: bool) -> None:
    """In the middle of the subtree."""
    context = orch.context()
    bad = life <= bad_until
    if inner:
        context.add_child(
            point.options(name=f"inner of {life}", retries=inner - 1)(where, inner if bad else 0, live=False)
        )
        return
    if not bad:
        context.add_child(flaky.options(name=f"good {life}")("", 0))
        return
    if not live:
        context.add_child(flaky.options(name=f"bad {life}")("value", 9))
        return
    pipe = f"{where}/pipe-{life}-{context.job_id}"
    os.mkfifo(pipe)
    context.add_child(hangs.options(name=f"live {life}")(pipe))
    context.add_child(flaky.options(name=f"bad {life}")("value", 9, 1, tells.options(name=f"tell {life}")(pipe)))


@orch.workflow
def checkpointed(where: str, bad_until: int = 2, retries: int = 2, live: bool = True) -> Any:
    """The value is taken by a job outside, which is not part of the subtree."""
    checkpoint = point.options(name="point", retries=retries)(where, bad_until, live=live)
    return flaky.options(name="user")("", 0, checkpoint)


@orch.workflow
def nested(where: str, inner: int = 2) -> Any:
    """A checkpoint inside a checkpoint: the inner one uses up its tries before the outer one runs again."""
    return flaky.options(name="user")("", 0, point.options(name="outer", retries=1)(where, 1, inner))


# Deferred -------------------------------------------------------------------------------------------------------------


def cleaned(where: str, what: str, fails: bool = False) -> None:
    """What is to be done afterwards."""
    write(f"{where}/cleaned", what)
    if fails:
        raise RuntimeError(f"{what} cannot be cleaned")


@orch.job(cores=0.1)
def defers(where: str, how: str = "", pipe: str = "") -> str:
    """Three calls, of which the second fails; then this attempt ends in some way, if it is the first."""
    attempt = orch.context().attempt
    for call in ("one", "two", "three"):
        orch.context().defer(cleaned, where, f"{call} {attempt}", fails=call == "two")
    write(f"{where}/cleaned", f"body {attempt}")
    if attempt == 1 and pipe:
        Path(pipe).write_bytes(b".")
        hang()
    if attempt == 1 and how:
        fail(how)
    return "done"


@orch.workflow
def deferring(where: str, how: str = "", pipe: str = "") -> Any:
    return defers.options(retries=1)(where, how, pipe)


@orch.job
def size() -> str:
    return "100 MiB"


@orch.job(cache=True, retries=1, retry_backoff=0)
def begun() -> int:
    """How often it was begun, when it ends well: the second time."""
    if orch.context().attempt == 1:
        raise ValueError("the first time")
    return orch.context().attempt


@orch.workflow
def counted() -> list[int]:
    return [begun(), begun.options(memory=size())()]
