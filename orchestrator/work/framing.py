"""What leader and planner say to each other over a pair of pipes: msgpack, each message preceded by its length."""

from __future__ import annotations

import struct

import msgspec

from orch.attempt import Place, Plan
from orch.work.options import Description

HEADER = struct.Struct("!Q")


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
    """Answer to `MakePlan`."""

    plan: Plan


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """Answer to anything: the name of a class in `orch.errors`, and its message."""

    kind: str
    message: str


Request = Load | Describe | MakePlan
Answer = Described | Made | Trouble


def encode(message: Request | Answer) -> bytes:
    """The message, framed."""
    data = msgspec.msgpack.encode(message)
    return HEADER.pack(len(data)) + data
