"""Events to lines and back.

A line is `{"seq":…,"time":"…","epoch":…,"group":…,"type":"…",…,"crc":"xxxxxxxx"}` and a newline; the last line of a
group has `"end":true` before the crc, and before that, unless it is the only one, `"sum":"xxxxxxxx"`. The crc is CRC-32
(zlib's) over every byte of the line before `,"crc":`, in eight hexadecimal digits, and is compared as text. So
`,"crc":"xxxxxxxx"}` are the last 18 bytes of every line. The sum is CRC-32 over all lines of the group before the last
one, newlines included: a reader that finds it right, and the crc of the last line, need not look at the others' crcs.
Logs that were written before there were sums have none.

Encoding: msgspec leaves out fields at their default, and the envelope of a new event is at its defaults; it is put in
front as text. Decoding is one pass of msgspec over a union of all known types. Only a line which that cannot take, or
which has another version than ours, goes the slow way: upcast step by step, or kept as `Unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, cast
from zlib import crc32

import msgspec
from msgspec.structs import force_setattr

from orch.bus.events import KNOWN, Event
from orch.bus.jsonable import is_jsonable

TAIL = 18
"""Length of `,"crc":"xxxxxxxx"}`."""

END = b',"end":true'
"""Mark of the last line of a group, right before the crc."""

SUM = b',"sum":"%08x"'
"""The sum of a group, right before the mark."""

SUM_LENGTH = len(SUM % 0)

_GUARD = re.compile(rb'((,"sum":"[0-9a-f]{8}")?,"end":true)?,"crc":"[0-9a-f]{8}"\}\Z')

RESERVED = frozenset({"seq", "time", "epoch", "group", "type", "v", "sum", "end", "crc"})
"""Names that no event may use for a field of its own."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a decoded line of version N and returns it as version N + 1 (`v` is set by the codec; `type` may change)."""

_FREE_FIELDS = {"annotated": "value", "created": "settings"}
"""Fields that hold what users gave us: checked before they are written."""


class BadLine(ValueError):
    """A line whose crc does not match, or which is no line of a log at all."""


class Unknown(Event, frozen=True, kw_only=True, tag="?", gc=False):
    """An event of a type, or of a version, that this orch does not know. `raw` is its line, without the newline.

    `orch tail` passes it through; a leader refuses to go on, since it cannot know what it would do to the run.
    """

    kind: str = ""
    raw: bytes = b""


def type_name(event: Event | type[Event]) -> str:
    """The event's `type` in the log."""
    if isinstance(event, Unknown):
        return event.kind
    return cast("str", event.__struct_config__.tag)


def finish(line: bytes, *, end: bool) -> bytes:
    """Close an open line: the mark if it is the last one of its group, crc, brace, newline."""
    if end:
        line += END
    return b'%b,"crc":"%08x"}\n' % (line, crc32(line))


def group_of(lines: Sequence[bytes]) -> bytes:
    """A whole group of these open lines. All but the last one are closed at once, for speed."""
    *before, last = lines
    crcs = map(crc32, before)
    head = (b'%b,"crc":"%08x"}\n' * len(before)) % tuple(chain.from_iterable(zip(before, crcs, strict=True)))
    return head + finish(last + SUM % crc32(head) if before else last, end=True)


def intact(lines: Sequence[bytes]) -> bool:
    """Do all lines (without newline) carry the right crc? One comparison for all of them, for speed."""
    found = b"".join([line[-TAIL:] for line in lines])
    crcs = tuple([crc32(line[:-TAIL]) for line in lines])
    return found == (b',"crc":"%08x"}' * len(crcs)) % crcs


def event_of(line: bytes) -> bytes:
    """A whole line (without newline) up to where the event ends: what follows only guards the file."""
    return _GUARD.sub(b"", line)


def lines_of(block: bytes) -> list[bytes]:
    """The lines of a text that ends with a newline, without their newlines."""
    return block[:-1].split(b"\n")


class Codec:
    """Encodes and decodes the given event types.

    `versions` gives the current version of types that are not at version 1; `upcasters` has, for each `(type,
    version)` that was ever written and is not current, a function to the next one.
    """

    def __init__(
        self,
        types: Sequence[type[Event]] = KNOWN,
        versions: Mapping[str, int] | None = None,
        upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
    ) -> None:
        self._versions = {type_name(t): 1 for t in types} | dict(versions or {})
        self._upcasters = dict(upcasters or {})
        self._kinds = {t: _Kind(type_name(t), self._versions[type_name(t)]) for t in types}
        self._plain = set(self._versions.values()) == {1}
        self._encoder = msgspec.json.Encoder()
        self._decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(reduce(or_, types))

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """New events, without envelopes, for `open_lines`. Does not change them.

        Raises ValueError if JSON cannot hold one of them so that the same comes back.
        """
        for event in events:
            self._must_be_new(event)
        return self._encode_all(events) if events else []

    def open_lines(self, bodies: Sequence[bytes], seq: int, middle: bytes) -> list[bytes]:
        """The lines, numbered from `seq`, up to where `group_of` goes on. `middle` comes from `envelope`."""
        return [b'{"seq":%d%b%b' % (number, middle, body[1:-1]) for number, body in enumerate(bodies, seq)]

    def envelope(self, time: str, epoch: int, group: int) -> bytes:
        """The part of the envelope that all lines of one `stage` share."""
        return b',"time":"%b","epoch":%d,"group":%d,' % (time.encode("ascii"), epoch, group)

    def stamp(self, events: Sequence[Event], seq: int, time: str, epoch: int, group: int) -> None:
        """Fill in the envelope of frozen events. For the log alone: it has just given them their places."""
        for number, event in enumerate(events, seq):
            force_setattr(event, "seq", number)
            force_setattr(event, "time", time)
            force_setattr(event, "epoch", epoch)
            force_setattr(event, "group", group)
            if not self._plain:
                force_setattr(event, "v", self._versions[type_name(event)])

    def decode(self, line: bytes) -> Event:
        """One line, with or without its newline. Raises BadLine."""
        line = line.removesuffix(b"\n")
        if not intact([line]):
            raise BadLine("the crc of the line does not match")
        return self.decode_block(line + b"\n")[0]

    def decode_block(self, block: bytes) -> list[Event]:
        """Events of whole lines that were checked to be intact. Raises BadLine."""
        try:
            events = self._decoder.decode_lines(block)
        except (ValueError, RecursionError):  # msgspec's own, of text that is not UTF-8, of lists in lists in lists …
            return [self._decode_slowly(line) for line in lines_of(block)]
        if self._plain and not [None for event in events if event.v != 1]:
            return events
        pairs = zip(events, lines_of(block), strict=True)
        return [event if self._is_current(event) else self._decode_slowly(line) for event, line in pairs]

    def _must_be_new(self, event: Event) -> None:
        kind = self._kinds.get(type(event))
        if kind is None:
            raise ValueError(f"{type(event).__name__} is no event that can be written")
        if event.seq:
            raise ValueError(f"the event {kind.name} is in a log already, as number {event.seq}")
        if kind.free and not is_jsonable(getattr(event, kind.free)):
            raise ValueError(f"{kind.name}.{kind.free} cannot be written as JSON: {getattr(event, kind.free)!r}")

    def _encode_all(self, events: Sequence[Event]) -> list[bytes]:
        """JSON objects. All at once, unless one of them needs to be looked at."""
        try:
            text = self._encoder.encode_lines(events)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return [self._encode(event) for event in events]
        if not self._plain or b"null" in text:
            return [self._encode(event) for event in events]
        return lines_of(text)

    def _encode(self, event: Event) -> bytes:
        kind = self._kinds[type(event)]
        try:
            body = self._encoder.encode(event)
        except (TypeError, ValueError, OverflowError, RecursionError) as e:
            raise ValueError(f"the event {kind.name} cannot be written as JSON: {e}") from e
        if b"null" in body:  # perhaps a NaN or an infinity, which msgspec writes as null
            self._must_come_back(kind.name, body)
        return body if kind.version == 1 else b'{"v":%d,%b' % (kind.version, body[1:])

    def _must_come_back(self, name: str, body: bytes) -> None:
        try:
            self._decoder.decode(body)
        except msgspec.DecodeError as e:
            raise ValueError(f"the event {name} cannot be written as JSON: {e}") from e

    def _is_current(self, event: Event) -> bool:
        return event.v == self._versions[type_name(event)]

    def _decode_slowly(self, line: bytes) -> Event:
        """Upcast, or keep as unknown. Also finds the one odd line of a block that msgspec would not take."""
        try:
            raw = msgspec.json.decode(line, type=dict[str, Any])
            envelope = msgspec.convert(raw, _Envelope)
        except (ValueError, RecursionError) as e:
            raise BadLine(f"no line of a log: {e}") from e
        version = envelope.v
        while (up := self._upcasters.get((raw["type"], version))) is not None:
            version += 1
            raw = up(raw) | {"v": version}
        if self._versions.get(raw["type"]) != version:
            return envelope.unknown(line)
        try:
            return self._decoder.decode(self._encoder.encode(raw))
        except (ValueError, RecursionError) as e:
            raise BadLine(f"the event {raw['type']} cannot be understood: {e}") from e


class _Kind:
    """What encoding needs to know of a type. `free` is the field that holds what users gave us, or empty."""

    __slots__ = ("free", "name", "version")

    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version
        self.free = _FREE_FIELDS.get(name, "")


class _Envelope(msgspec.Struct):
    """What every line has, whatever its type."""

    seq: int
    time: str
    epoch: int
    group: int
    type: str
    v: int = 1

    def unknown(self, line: bytes) -> Unknown:
        return Unknown(
            seq=self.seq, time=self.time, epoch=self.epoch, group=self.group, v=self.v, kind=self.type, raw=line
        )


CODEC = Codec()
"""The codec of the events in `orch.bus.events`, at their present versions; there are no upcasters yet."""
