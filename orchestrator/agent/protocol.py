"""What a leader and an agent say to each other: frames of a 4-byte length and a msgpack message.

Many attempts, keys or updates travel in one message. The updates themselves are those of the adapter contract.
"""

from __future__ import annotations

import msgspec

from orch.adapters.contract import Capacity, RunInfo, Update
from orch.attempt import Attempt
from orch.bus.events import Accelerator
from orch.environment import packed, unpacked

VERSION = 6
"""Raised with every change that an older side would not understand."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message: who leads which run. The environment in it is packed, and kept in memory only.

    `runtime` is the runtime directory that the run asked for; the agent may live in another.
    """

    info: RunInfo
    runtime: str
    version: int = VERSION

    @classmethod
    def of(cls, info: RunInfo, runtime: str) -> Hello:
        """The message that says this."""
        return cls(msgspec.structs.replace(info, environment=packed(info.environment)), runtime)

    def said(self) -> RunInfo:
        """The `info` that `of` was given."""
        return msgspec.structs.replace(self.info, environment=unpacked(self.info.environment))


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Run these."""

    attempts: list[Attempt]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """End these."""

    keys: list[str]


class StopServices(msgspec.Struct, frozen=True, tag="stop-services"):
    """Tell these services to stop by themselves."""

    keys: list[str]


class Withdraw(msgspec.Struct, frozen=True, tag="withdraw"):
    """Forget those of these that wait for their turn: they are to run elsewhere. Each is answered by an `Unknown`."""

    keys: list[str]
    ask: int


class Limit(msgspec.Struct, frozen=True, tag="limit"):
    """What the run may use at once from now on; memory and disk in bytes, 0: all that there is."""

    cores: float
    memory: int
    disk: int


class Acknowledge(msgspec.Struct, frozen=True, tag="acknowledge"):
    """The outcomes of these are in the log."""

    keys: list[str]


class Find(msgspec.Struct, frozen=True, tag="find"):
    """Say how these stand, and end all others of the run."""

    keys: list[str]
    ask: int = 0


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A question about one attempt, answered by the `Answer` of the same number.

    An observer may ask without a hello: it leads nothing, and fences nobody.
    """

    number: int
    key: str


class StandStill(msgspec.Struct, frozen=True, tag="stand-still"):
    """Nothing of the run can move unless other runs give room; so it was after `heard` updates. -1: no more so."""

    heard: int


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """The leader leaves in order; live attempts go on."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The agent's first message, and its answer to `Limit`: what the run may use here at once. Sizes in bytes.

    `beyond`: what this host has.
    """

    pid: int
    host: str
    cores: float
    memory: int
    disk: int
    accelerators: tuple[Accelerator, ...] = ()
    beyond: Capacity | None = None


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The agent ends the connection. `fenced`: a later epoch of the run leads."""

    message: str
    fenced: bool = False


class Updates(msgspec.Struct, frozen=True, tag="updates"):
    """What has happened to attempts of the run."""

    items: list[Update]


class GiveWay(msgspec.Struct, frozen=True, tag="give-way"):
    """Runs here wait for each other, and this one has to go. `why`: what it lacks, for people. Empty: no more so."""

    why: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """`text`: why the attempt is not running yet. `out`, `err`: what it has written so far, head and tail.

    `known`: the agent has the attempt, and it is not over.
    """

    number: int
    text: str = ""
    out: bytes = b""
    err: bytes = b""
    known: bool = False


FromLeader = Hello | Submit | Cancel | StopServices | Withdraw | Limit | Acknowledge | Find | Ask | StandStill | Bye
FromAgent = Welcome | Refused | Updates | GiveWay | Answer

_encoder = msgspec.msgpack.Encoder()
_from_leader = msgspec.msgpack.Decoder(FromLeader)
_from_agent = msgspec.msgpack.Decoder(FromAgent)


def frame(message: FromLeader | FromAgent) -> bytes:
    """The message, ready to be sent."""
    data = _encoder.encode(message)
    return len(data).to_bytes(4, "big") + data


def from_leader(data: bytes | memoryview) -> FromLeader:
    """The message in a frame. Raises `ValueError` (msgspec's own are), `RecursionError`."""
    message: FromLeader = _from_leader.decode(data)
    return message


def from_agent(data: bytes | memoryview) -> FromAgent:
    """The message in a frame. Raises `ValueError` (msgspec's own are), `RecursionError`."""
    message: FromAgent = _from_agent.decode(data)
    return message


class Frames:
    """Puts frames together again from pieces of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def awaited(self) -> int:
        """How long the frame is that has begun and is not whole; 0 if that is not known yet."""
        return int.from_bytes(self._buffer[:4], "big") if len(self._buffer) >= 4 else 0

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now."""
        self._buffer += data
        found: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= 4:
            end = at + 4 + int.from_bytes(self._buffer[at : at + 4], "big")
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[at + 4 : end]))
            at = end
        if at:
            del self._buffer[:at]
        return found
