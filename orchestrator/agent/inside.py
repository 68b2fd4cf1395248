"""What an agent and its templates say to each other, in packets (see `orch.agent.packets`).

With a `Fork` come two descriptors: where the attempt's stdout and stderr go. With that of a service comes a third, one
end of a socket: the service is to stop once that can be read, or is at its end because the other end was closed. With
a `Hire` a third, too: where the worker receives its attempts, each a msgpack `Attempt`. Attempts that were forked and
workers answer over the template's own socket; so what an attempt leaves behind always comes before the news that its
process has ended.
"""

from __future__ import annotations

import msgspec

from orch.attempt import Attempt, Note, Outcome, Place


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """The first message: where things are, what to import (empty: nothing). With two descriptors: stdout and stderr."""

    agent: str
    place: Place
    bundle: str
    python_path: list[str]


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Fork an attempt. `scratch`: the directory that is lent to it, which is there and empty."""

    attempt: Attempt
    scratch: str = ""


class Hire(msgspec.Struct, frozen=True, tag="hire"):
    """Fork a warm worker. `scratch`: the directory that is lent to it, for all its attempts."""

    number: int
    scratch: str = ""


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """Kill a child of the template, if that has not been waited for."""

    pid: int


ToTemplate = Setup | Fork | Hire | Kill


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The workflow is imported; said again when what it takes in memory has changed since."""


class ImportFailed(msgspec.Struct, frozen=True, tag="import-failed"):
    """The workflow cannot be imported: the template ends. `ours`: the bundle cannot be read."""

    message: str
    ours: bool = False


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """An attempt runs. `pid` 0: it could not be done, for the reason in `message`."""

    key: str
    pid: int
    message: str = ""


class Hired(msgspec.Struct, frozen=True, tag="hired"):
    """A worker is there. `pid` 0: it could not be made, for the reason in `message`."""

    number: int
    pid: int
    message: str = ""


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A child of the template has ended, with this status (wait(2)), CPU seconds, and peak of resident bytes."""

    pid: int
    status: int
    user: float
    system: float
    memory: int = 0


class Left(msgspec.Struct, frozen=True, tag="left"):
    """From an attempt: its outcome."""

    outcome: Outcome


class Said(msgspec.Struct, frozen=True, tag="said"):
    """From an attempt, while it runs."""

    note: Note


FromTemplate = Ready | ImportFailed | Forked | Hired | Exited | Left | Said

encode = msgspec.msgpack.Encoder().encode
to_template = msgspec.msgpack.Decoder(ToTemplate).decode
from_template = msgspec.msgpack.Decoder(FromTemplate).decode
decode_attempt = msgspec.msgpack.Decoder(Attempt).decode
