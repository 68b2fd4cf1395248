"""Where in a segment an event stands: by an index of some lines, and from there by a search by halves.

So a segment need not be read as a whole to find one line of it. A log that is damaged may lead a search astray, but not
to a wrong event: who reads what was found looks at its number and its crc.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from typing import NamedTuple

from orch.bus.codec import intact
from orch.bus.events import Predecessor
from orch.bus.files import Files
from orch.bus.groups import ends_group

NEAR = 16 * 1024
"""Bytes that a search for a line narrows it down to, and that are then read at once."""

_PROBE = 4 * 1024
"""Bytes in which the beginning of a line is looked for first; more than an envelope has."""

_HEAD = re.compile(rb'\{"seq":(\d+),"time":"[^"]*","epoch":(\d+),"group":(\d+),')
_BEHIND_NEWLINE = re.compile(rb'\n\{"seq":(\d+),"time":"[^"]*","epoch":\d+,"group":\d+,')

Point = Predecessor
"""A place behind a whole group: segment, number and crc of its last line, and the length of the segment up to there."""


class Place(NamedTuple):
    """The number of an event, and the offset at which its line begins."""

    seq: int
    offset: int


class Index:
    """Places of some lines of a segment, to find the others from: 16 bytes for each `NEAR` bytes of it, at most."""

    def __init__(self, first: int) -> None:
        self._seqs = array("Q", [first])
        self._offsets = array("Q", [0])

    def add(self, seq: int, offset: int) -> None:
        """Event `seq`, behind all that were noted, begins at `offset`. Not noted if a line near it is known.

        May be called while another thread looks something up.
        """
        if offset - self._offsets[-1] >= NEAR:
            self._offsets.append(offset)  # before its number: `around` looks for numbers
            self._seqs.append(seq)

    def note(self, place: Place) -> None:
        """A line has been found, somewhere. Not noted if one near it is known."""
        k = bisect_right(self._seqs, place.seq)
        if place.offset - self._offsets[k - 1] >= NEAR:
            self._offsets.insert(k, place.offset)
            self._seqs.insert(k, place.seq)

    def around(self, seq: int, length: int) -> tuple[Place, int]:
        """A line at or before event `seq`, and an offset that its line begins before; `length` is the segment's."""
        k = bisect_right(self._seqs, seq)
        high = self._offsets[k] if k < len(self._seqs) else length
        return Place(self._seqs[k - 1], self._offsets[k - 1]), high


def near(files: Files, handle: int, seq: int, index: Index, length: int, close: int = 0) -> Place:
    """A line at or before event `seq`, at most `close` bytes (0: `NEAR`) or one line away. What is met is noted."""
    low, high = index.around(seq, length)
    while high - low.offset > (close or NEAR):
        middle = (low.offset + high) // 2
        found = _line_behind(files, handle, middle, high)
        if found is not None:
            index.note(found)
        if found is None or found.seq > seq:
            high = middle
        else:
            low = found
    return low


def line_of(
    files: Files, handle: int, seq: int, index: Index, length: int, close: int = 0
) -> tuple[int, bytes, bytes] | None:
    """Offset and line (with its newline) of event `seq`, and what was read behind it; None if it is not there."""
    place = near(files, handle, seq, index, length, close)
    data, newlines = b"", seq - place.seq + 1
    while len(lines := data.split(b"\n", newlines)) <= newlines:
        at = place.offset + len(data)
        more = files.read(handle, at, min(max(close or NEAR, len(data)), length - at)) if at < length else b""
        if not more:
            return None
        data += more
    line = lines[-2] + b"\n"
    if not line.startswith(b'{"seq":%d,' % seq):
        return None
    return place.offset + len(data) - len(lines[-1]) - len(line), line, lines[-1]


def group_start(files: Files, handle: int, seq: int, index: Index, length: int, close: int = 0) -> Place | None:
    """Where some group not far before event `seq`, or that of it, begins; None if that cannot be found."""
    place = near(files, handle, seq, index, length, close)
    if not place.offset:
        return place
    head = _HEAD.match(files.read(handle, place.offset, _PROBE))
    found = line_of(files, handle, int(head[3]), index, length, close) if head else None
    return Place(int(head[3]), found[0]) if head and found else None


def stands(files: Files, handle: int, point: Point, epoch: int) -> bool:
    """Is there, right before the point's length, the whole line that it names, and does it end a group of `epoch`?"""
    line = _line_before(files, handle, point.length)
    head = _HEAD.match(line)
    return (
        head is not None
        and (int(head[1]), int(head[2])) == (point.seq, epoch)
        and line.endswith(b',"crc":"%b"}\n' % point.crc.encode())
        and ends_group(line[:-1])
        and intact([line[:-1]])
    )


def _line_before(files: Files, handle: int, end: int) -> bytes:
    """What ends at the offset `end`, from behind the last newline before; empty if there is no such offset."""
    size = NEAR
    while True:
        start = max(0, end - size)
        data = files.read(handle, start, end - start)
        begin = data.rfind(b"\n", 0, max(0, len(data) - 1)) + 1
        if len(data) < end - start:
            return b""
        if begin or not start:
            return data[begin:]
        size *= 2


def _line_behind(files: Files, handle: int, offset: int, high: int) -> Place | None:
    """The first line that begins behind `offset`, and before `high`."""
    data = b""
    while offset + len(data) < high:
        size = min(max(_PROBE, len(data)), high - offset - len(data))
        more = files.read(handle, offset + len(data), size)
        if not more:
            return None
        data += more
        if found := _BEHIND_NEWLINE.search(data):
            return Place(int(found[1]), offset + found.start() + 1)
    return None
