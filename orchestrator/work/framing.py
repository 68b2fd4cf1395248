"""What leader and planner say to each other over a pair of pipes: msgpack, each message preceded by its length."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from orch.attempt import NewJob, Place, Plan
from orch.work.options import Description

HEADER = struct.Struct("!Q")

PORTION = 1024
"""Jobs of a plan that are sent, and held as objects, at once."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first message, which has no answer: import the bundle in this directory, with this environment, in `cwd`."""

    bundle: str
    environment: dict[str, str]
    cwd: str

    def __repr__(self) -> str:  # it gets into tracebacks: without values
        return f"Load(bundle={self.bundle!r}, environment=<{len(self.environment)} variables>)"


class Describe(msgspec.Struct, frozen=True, tag=True):
    """Which options has the workflow?"""


class MakePlan(msgspec.Struct, frozen=True, tag=True):
    """Run the workflow function: with `argv`, or else with pickled `(args, kwargs)`."""

    place: Place
    run: str
    argv: list[str] | None = None
    arguments: bytes = b""


class Described(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Describe`."""

    description: Description


class Made(msgspec.Struct, frozen=True, tag=True):
    """Answer to `MakePlan`. With `portions`, the plan's jobs are not in it: so many lists of jobs follow."""

    plan: Plan
    portions: int = 0


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """Answer to anything: the name of a class in `orch.errors`, and its message."""

    kind: str
    message: str


Request = Load | Describe | MakePlan
Answer = Described | Made | Trouble


def encode(message: Request | Answer | Sequence[NewJob]) -> bytes:
    """The message, framed."""
    data = msgspec.msgpack.encode(message)
    return HEADER.pack(len(data)) + data


def frames(answer: Answer) -> Iterator[bytes]:
    """An answer, framed; the jobs of a large plan in portions."""
    jobs = answer.plan.jobs if isinstance(answer, Made) else ()
    if not isinstance(answer, Made) or len(jobs) <= PORTION:
        yield encode(answer)
        return
    yield encode(Made(msgspec.structs.replace(answer.plan, jobs=[]), -(-len(jobs) // PORTION)))
    for first in range(0, len(jobs), PORTION):
        yield encode(jobs[first : first + PORTION])
