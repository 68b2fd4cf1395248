"""One segment, read in verified blocks of whole groups.

Used by everything that reads a log: by readers, and by the log itself when it is opened. A group is whole when its
last line, which bears the mark `"end":true`, is there, and everything before it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from orch.bus.codec import END, TAIL, intact
from orch.bus.errors import LogDamaged, damaged
from orch.bus.files import Files
from orch.bus.segment import Span, opened_file, trouble
from orch.bus.torn import damage, first_bad, out_of_order

CHUNK = 256 * 1024
"""Bytes read at once: enough to forget the cost of a call, little enough for the processor's cache."""

_STRIDE = 16
"""An index entry is made for every so many events: 1 byte an event, and at most so many lines to read for one."""

_MARK = len(END) + TAIL
_CLOSED = b',"type":"closed",'


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole groups: their bytes, lines (without newlines), first number, and offset in the file."""

    data: bytes
    lines: list[bytes]
    seq: int
    offset: int

    @property
    def end(self) -> int:
        """Offset behind it."""
        return self.offset + len(self.data)

    @property
    def last(self) -> int:
        """Number of its last event."""
        return self.seq + len(self.lines) - 1

    @property
    def crc(self) -> str:
        """The crc of its last line."""
        return self.lines[-1][-10:-2].decode("ascii")

    @property
    def closed(self) -> bool:
        """Does it end with the closing line?"""
        return is_closing(self.lines[-1])


class Index:
    """Offsets of some lines of a segment, to find the others from."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._offsets = array("Q")

    def add(self, seq: int, offset: int, lengths: Sequence[int]) -> None:
        """Lines from `seq` on have been found at `offset`, of these lengths (newline included)."""
        due = self._seqs[-1] + _STRIDE if self._seqs else seq
        for length in lengths:
            if seq >= due:
                self._seqs.append(seq)
                self._offsets.append(offset)
                due = seq + _STRIDE
            seq += 1
            offset += length

    def before(self, seq: int) -> tuple[int, int]:
        """Number and offset of a line at or not far before `seq`."""
        k = bisect_right(self._seqs, seq) - 1
        return self._seqs[k], self._offsets[k]


def is_closing(line: bytes) -> bool:
    """Is this whole line the one that closes a segment? Its type is the first member behind the envelope."""
    return _CLOSED in line[:200] and line.find(b'"type":"') == line.find(_CLOSED) + 1


def ends_group(line: bytes) -> bool:
    """Is this whole line the last one of its group?"""
    return line.startswith(END, len(line) - _MARK)


def blocks(files: Files, span: Span, offset: int = 0, seq: int = 0) -> Iterator[Block]:
    """The segment's blocks from `offset` on, where the line numbered `seq` begins a group (0: its beginning).

    A segment that has a successor ends where that one says; else it ends with the last whole group that is there
    now. Raises LogDamaged with file and offset, LogTrouble.
    """
    with trouble("read", span.path), opened_file(span.path, files) as handle:
        yield from _Scan(files, handle, span, offset, seq or span.first).run()


class _Scan:
    """A walk over one segment. `offset` and `seq` are where the next block begins."""

    def __init__(self, files: Files, handle: int, span: Span, offset: int, seq: int) -> None:
        self._files = files
        self._handle = handle
        self._span = span
        self._offset = offset
        self._seq = seq
        self._read_to = offset
        self._last: Block | None = None

    def run(self) -> Iterator[Block]:
        data = b""
        while more := self._more(max(CHUNK, len(data))):
            known = len(data)
            data += more
            cut = _last_group_end(data, known)
            if cut == 0:
                continue
            block = self._whole(data[:cut])
            taken = 0 if block is None else len(block.data)
            if block is not None:
                yield block
            data = data[taken:]
            if taken < cut:
                self._judge(data, to_end=False)
                return
        self._judge(data, to_end=True)

    def _more(self, size: int) -> bytes:
        """The next bytes, up to the stated end if there is one."""
        if self._span.end is not None:
            size = min(size, self._span.end.length - self._read_to)
        more = self._files.read(self._handle, self._read_to, size) if size > 0 else b""
        self._read_to += len(more)
        return more

    def _whole(self, data: bytes) -> Block | None:
        """The block of all whole groups at the start of `data` (which ends with a group); None if there are none."""
        lines = data.split(b"\n")
        lines.pop()
        if not _in_order(lines, self._seq):
            lines = lines[: _count_good(lines, self._seq)]
            data = b"".join([line + b"\n" for line in lines])
        if not lines:
            return None
        block = Block(data, lines, self._seq, self._offset)
        self._seq, self._offset, self._last = block.last + 1, block.end, block
        return block

    def _judge(self, rest: bytes, *, to_end: bool) -> None:
        """Everything whole was handed out: is `rest`, and what follows it, as it may be?

        `to_end`: the file's end was met. Then nothing is read any more: what a live leader writes from now on is
        whole groups, of which only the next reader can make sense.
        """
        end = self._span.end
        if end is not None:
            self._must_end_here(rest, end.length, end.seq, end.crc)
            return
        if not rest:
            return
        if self._last is not None and self._last.closed:
            raise self._damaged(0, "bytes follow the closing line")
        if self._span.opened.durability == "relaxed":
            return
        found = self._later_group(rest, to_end=to_end)
        if found is not None:
            raise self._damaged(*found)

    def _later_group(self, rest: bytes, *, to_end: bool) -> tuple[int, str] | None:
        """What `damage` says of `rest` and all that follows it. Reads no further than needed: a log may be long."""
        while not to_end:
            more = self._more(max(1 << 20, len(rest)))
            to_end = not more
            rest += more
            found = None if to_end else out_of_order(rest[: rest.rfind(b"\n") + 1], self._seq)
            if found is not None:
                return found
        return damage(rest, self._seq)

    def _must_end_here(self, rest: bytes, length: int, seq: int, crc: str) -> None:
        if rest or self._offset != length:
            raise self._damaged(first_bad(rest, self._seq), f"its successor says that it is whole up to byte {length}")
        if self._last is not None and (self._last.last, self._last.crc) != (seq, crc):
            raise self._damaged(0, f"its successor states that it ends with event {seq} of crc {crc}")

    def _damaged(self, at: int, why: str) -> LogDamaged:
        return damaged(self._span.path, self._offset + at, why)


def _last_group_end(data: bytes, known: int) -> int:
    """Length of the part of `data` that ends with the last line that ends a group; 0 if there is none.

    The first `known` bytes have been looked at before, and have none.
    """
    end = data.rfind(b"\n", known) + 1
    while end > known:
        mark = end - 1 - _MARK
        if mark >= 0 and data.startswith(END, mark):
            return end
        end = data.rfind(b"\n", known, end - 1) + 1
    return 0


def _in_order(lines: list[bytes], seq: int) -> bool:
    """Are all lines intact and numbered on from `seq`?"""
    starts = (b'{"seq":%d,\n' * len(lines)) % tuple(range(seq, seq + len(lines)))
    return all(map(bytes.startswith, lines, starts.split(b"\n"))) and intact(lines)


def _count_good(lines: list[bytes], seq: int) -> int:
    """How many lines at the start are whole groups in order."""
    good = 0
    for k, line in enumerate(lines):
        if not _in_order([line], seq + k):
            break
        if ends_group(line):
            good = k + 1
    return good
