"""Which groups at the start of some bytes are whole: intact, in order, and ended.

Where a group has its sum, that is found out without looking at its lines one by one. A group of a log that was written
before there were sums is looked at line by line.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

from orch.bus.codec import END, SUM, SUM_LENGTH, TAIL, intact, lines_of

_ENDS = END + b',"crc":"'
_CLOSE = b'"}\n'
_LENGTH = len(END) + TAIL + 1
"""From the mark to behind the newline."""

_SEQ = re.compile(rb'\{"seq":(\d+),')


class Whole(NamedTuple):
    """The first `length` bytes are whole groups, and event `next` comes behind them.

    `broken`: what follows has the end of a group too, and is not whole.
    """

    length: int
    next: int
    broken: bool


def whole_groups(data: bytes, seq: int, known: int = 0) -> Whole:
    """Look at `data`, whose first event should be `seq`. In its first `known` bytes no group ends."""
    at = 0
    mark = data.find(_ENDS, max(0, known - _LENGTH))
    while mark >= 0:
        begin = mark + 1
        if data.startswith(_CLOSE, mark + _LENGTH - len(_CLOSE)):  # else a user says this, or it is not all there yet
            behind = _behind(data, at, mark, seq)
            if not behind:
                return Whole(at, seq, broken=True)
            at = begin = mark + _LENGTH
            seq = behind
        mark = data.find(_ENDS, begin)
    return Whole(at, seq, broken=False)


def _behind(data: bytes, start: int, mark: int, seq: int) -> int:
    """Number of the event behind the group from `start` on, whose mark is at `mark`; 0 if the group is not whole."""
    last = data.rfind(b"\n", start, mark) + 1 or start
    stop = mark + len(END)
    if not data.startswith(b',"crc":"%08x"' % crc32(data[last:stop]), stop):
        return 0
    if last > start and not has_sum(data, mark):
        lines = lines_of(data[start : stop + TAIL + 1])
        return seq + len(lines) if in_order(lines, seq) else 0
    if not data.startswith(b'{"seq":%d,' % seq, start):
        return 0
    if last == start:
        return seq + 1
    number = _SEQ.match(data, last)
    right = data.startswith(SUM % crc32(data[start:last]), mark - SUM_LENGTH)
    return int(number[1]) + 1 if number and right else 0


def has_sum(data: bytes, mark: int) -> bool:
    """Is there a sum before the mark at `mark`? No event has a field of that name."""
    return mark >= SUM_LENGTH and data.startswith(SUM[: -len("%08x") - 1], mark - SUM_LENGTH)


def sum_fits(line: bytes, before: bytes) -> bool:
    """Is the sum in the last line of a group (without newline) that of the lines before it, or is there none?"""
    mark = len(line) - TAIL - len(END)
    return not has_sum(line, mark) or line.startswith(SUM % crc32(before), mark - SUM_LENGTH)


def in_order(lines: list[bytes], seq: int) -> bool:
    """Are all lines (without newlines) intact and numbered on from `seq`?"""
    starts = (b'{"seq":%d,\n' * len(lines)) % tuple(range(seq, seq + len(lines)))
    return all(map(bytes.startswith, lines, starts.split(b"\n"))) and intact(lines)


def ends_group(line: bytes) -> bool:
    """Is this whole line (without newline) the last one of its group?"""
    return line.startswith(END, len(line) - TAIL - len(END))
