"""Everything that jobs can be to each other, in one run: services, a checkpoint that fails twice, chains and so on.

Each body writes a line, with the key of its attempt, to a file named after itself as the last thing that it does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orch

FAILURES = 2
"""So often what is below the checkpoint fails."""

LINKS = 6
SIZE = 100 << 20
PATIENCE = 30.0
"""Seconds."""


def ran(where: str, name: str) -> None:
    """This body is at its end. With the attempt's number in the log, where surveys count too."""
    who = orch.context().who
    record(where, name, f"{who.job}.{who.attempt}")


def record(where: str, name: str, line: str) -> None:
    """Add a line to a file, at once."""
    descriptor = os.open(f"{where}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def count(where: str, name: str) -> int:
    """How many lines a file has."""
    path = Path(where, name)
    return len(path.read_text().splitlines()) if path.exists() else 0


def defers(where: str) -> None:
    """This attempt defers something; that it has is known once it has begun to tell."""
    here = orch.context()
    key = f"{here.job_id}.{here.attempt}"
    here.defer(record, where, "deferred", key)
    record(where, "defers", key)


def until_there(where: str, name: str) -> None:
    """Wait for a file."""
    end = time.monotonic() + PATIENCE
    while not Path(where, name).exists():
        assert time.monotonic() < end, f"{name} does not come"
        time.sleep(0.003)  # there is nothing else to wait on: the other may be killed and come again


class Lamp(orch.Service):
    """Is lit while its process lives."""

    def __init__(self, where: str, name: str, below: Any = None) -> None:
        super().__init__(cores=0.1, check_interval="0.05s", retries=50, name=name)
        self.where = where
        self.label = name
        self.below = below

    def start(self) -> dict[str, Any]:
        defers(self.where)
        record(self.where, "pids", str(os.getpid()))
        ran(self.where, f"start-{self.label}")
        return {"name": self.label, "pid": os.getpid()}

    def check(self) -> bool:
        return True

    def stop(self) -> None:
        ran(self.where, f"stop-{self.label}")


@orch.job(cores=0.1)
def prepare(where: str) -> str:
    ran(where, "prepare")
    return "prepared"


@orch.job(cores=0.1, retries=50)
def use(where: str, number: int, *lamps: Any) -> list[str]:
    """Needs lamps that are lit."""
    if not number:
        defers(where)
    for lamp in lamps:
        os.kill(lamp["pid"], 0)
    ran(where, f"use-{number}")
    return [lamp["name"] for lamp in lamps]


@orch.job(cores=0.1, checkpoint=True, retries=50)
def point(where: str) -> Any:
    """Each time it makes a job that fails, and another that is live then, until that has been often enough."""
    defers(where)
    here = orch.context()
    turn = count(where, "shaky-failed")
    shaken = here.add_child(shaky(where, turn))
    here.add_child(lively(where, turn))
    here.add_follow_on(afterwards(where))
    ran(where, "point")
    return shaken


@orch.job(cores=0.1, retries=0)
def shaky(where: str, turn: int) -> int:
    defers(where)
    if turn < FAILURES:  # what is counted may be more: an attempt that has failed may be lost before that is known
        until_there(where, f"lively-{turn}")
        ran(where, "shaky-failed")
        raise RuntimeError("not yet")
    ran(where, "shaky")
    return 3


@orch.job(cores=0.1)
def lively(where: str, turn: int) -> None:
    """Does not end by itself as long as the other fails."""
    defers(where)
    if turn < FAILURES:
        ran(where, f"lively-{turn}")
        time.sleep(10 * PATIENCE)  # until it is ended
        raise AssertionError("nobody has ended it")
    ran(where, "lively")


@orch.job(cores=0.1)
def afterwards(where: str) -> None:
    ran(where, "afterwards")


@orch.job(cores=0.1)
def link(where: str, number: int, before: int) -> int:
    if number == 1:
        defers(where)
    ran(where, f"link-{number}")
    return before + 1


@orch.job(cores=0.1)
def write(where: str) -> orch.FileRef:
    path = orch.context().scratch / "passing"
    path.write_text("passing")
    ref = orch.context().write_file(path, keep="successors")
    ran(where, "write")
    return ref


@orch.job(cores=0.1)
def read(where: str, number: int, file: orch.FileRef) -> str:
    found = Path(orch.context().read_file(file)).read_text()
    ran(where, f"read-{number}")
    return found


@orch.job(cores=0.1, cache=True)
def cached(shared: str) -> int:
    """What other runs beside this one take over from it."""
    ran(shared, "cached")
    return SIZE


@orch.job(cores=0.1, isolation="pool")
def pooled(where: str, size: int) -> int:
    defers(where)
    ran(where, "pooled")
    return size // SIZE


@orch.job(cores=0.1, retries=50, retry_backoff="0.005s")
def flaky(where: str) -> str:
    defers(where)
    if not count(where, "flaky-failed"):
        ran(where, "flaky-failed")
        raise RuntimeError("the first time")
    ran(where, "flaky")
    return "second"


@orch.job(cores=0.1)
def wanting(where: str) -> int | None:
    ran(where, "wanting")
    return orch.context().resources.memory


@orch.job(cores=0.1)
def gather(where: str, *parts: Any) -> list[Any]:
    ran(where, "gather")
    return list(parts)


EXPECTED = [[["near", "far"]] * 3, 3, LINKS, ["passing"] * 2, 1, "second", 2 * SIZE]
ONCE = {
    *("prepare", "use-0", "use-1", "use-2", "shaky", "lively", "afterwards", "write", "read-0", "read-1"),
    *("pooled", "flaky", "wanting", "gather", *(f"link-{number}" for number in range(LINKS))),
}
"""What runs to its end once, if nothing but leaders is killed. So often at the least, in any case."""

TWICE = {"shaky-failed", "flaky-failed", "lively-0", "lively-1", "point"}
AT_LEAST = {"start-near", "start-far", "stop-near", "stop-far", "defers", "deferred", "pids"}


@orch.workflow
def main(where: str) -> Any:
    prepared = orch.as_job(prepare(where))
    near = Lamp(where, "near")
    light = prepared.add_service(near)
    both = [light, prepared.add_service(Lamp(where, "far", light["name"]), parent=near)]
    used = [prepared.add_child(use(where, number, *both)) for number in range(3)]
    total = 0
    for number in range(LINKS):
        total = link(where, number, total)
    file = write(where)
    size = cached(str(Path(where).parent))
    wanted = wanting.options(memory=orch.promised(lambda found: 2 * found, size))(where)
    whole = orch.as_job(flaky(where)).encapsulate()
    whole.add_follow_on(prepared)
    texts = [read(where, number, file) for number in range(2)]
    return gather(where, used, point(where), total, texts, pooled(where, size), whole, wanted)
