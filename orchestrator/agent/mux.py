"""What a leader and a bridge on another host say to each other: many streams, and questions, on one.

A frame has a number (4 bytes, network order), a kind (1 byte), a length (4 bytes) and that many bytes. The number is
that of a stream or of a question, as the leader has counted them; 0 is the connection itself.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, NamedTuple

import msgspec

_HEADER = struct.Struct("!IBI")

LONGEST = 1 << 30
"""Bytes of a frame. Whoever announces more does not speak this."""


class Kind(enum.IntEnum):
    """What a frame is."""

    OPEN = 1  # leader: reach the agent of a store (`Open`); its stream has this number
    OPENED = 2  # bridge: here it is; the payload is the agent's runtime directory
    FAILED = 3  # bridge: it could not be reached, or a question not be answered (`Failed`)
    DATA = 4  # either: a piece of a stream
    CLOSE = 5  # either: the stream is over
    ASK = 6  # leader: a question (`Question`)
    ANSWER = 7  # bridge: its answer, msgpack; of number 0: what the bridge says first (`Facts`)
    WANTED = 8  # bridge: somebody waits for a file of the store (`Wanted`)
    BEAT = 9  # leader: it is there


class Open(msgspec.Struct, frozen=True):
    """Whose agent is wanted, and where it is to live if there is none."""

    store: str
    work_dir: str


class Failed(msgspec.Struct, frozen=True):
    """Why. `again`: another try may do."""

    message: str
    again: bool = False


class Question(msgspec.Struct, frozen=True):
    """`what`: the name of a method of the bridge; `about`: its argument, a path mostly."""

    what: str
    about: str = ""
    text: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """A file that an attempt waits for: its path in the store that is mirrored at `mirror`."""

    mirror: str
    path: str


class Facts(msgspec.Struct, frozen=True):
    """What a bridge says of its host.

    `clock`: seconds since 1970; `cache`: where this user keeps what can be made anew; `environment`: variables that
    only that host can say.
    """

    host: str
    boot: str
    python: str
    executable: str
    clock: float
    cache: str
    environment: dict[str, str]


class Frame(NamedTuple):
    """A frame that is whole."""

    number: int
    kind: Kind
    data: bytes


def frame(number: int, kind: Kind, data: bytes = b"") -> bytes:
    """A frame, ready to be sent."""
    return _HEADER.pack(number, kind, len(data)) + data


def message(number: int, kind: Kind, content: Any) -> bytes:
    """A frame with a record in it."""
    return frame(number, kind, msgspec.msgpack.encode(content))


class Frames:
    """Puts frames together again from pieces of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises `ValueError` for what is none."""
        self._buffer += data
        found: list[Frame] = []
        at = 0
        while len(self._buffer) - at >= _HEADER.size:
            number, kind, length = _HEADER.unpack_from(self._buffer, at)
            if length > LONGEST:
                raise ValueError(f"a frame of {length} bytes")
            end = at + _HEADER.size + length
            if len(self._buffer) < end:
                break
            found.append(Frame(number, Kind(kind), bytes(self._buffer[at + _HEADER.size : end])))
            at = end
        if at:
            del self._buffer[:at]
        return found
