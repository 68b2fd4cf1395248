"""One segment, read in verified blocks of whole groups.

Used by everything that reads a log: by readers, and by the log itself when it is opened. A group is whole when its
last line, which bears the mark `"end":true`, is there, and everything before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from orch.bus.codec import lines_of
from orch.bus.errors import LogDamaged, damaged
from orch.bus.files import Files
from orch.bus.groups import whole_groups
from orch.bus.segment import Span, opened_file, trouble
from orch.bus.torn import damage, first_bad, out_of_order

CHUNK = 256 * 1024
"""Bytes read at once: enough to forget the cost of a call, little enough for the processor's cache."""

_CLOSED = b',"type":"closed",'


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole groups: their bytes, the numbers of the first and the last event, and the offset in the file."""

    data: bytes
    seq: int
    last: int
    offset: int

    @property
    def end(self) -> int:
        """Offset behind it."""
        return self.offset + len(self.data)

    @property
    def count(self) -> int:
        """How many events there are, by their numbers."""
        return self.last - self.seq + 1

    @property
    def lines(self) -> list[bytes]:
        """Its lines, without newlines. They are split at each call."""
        return lines_of(self.data)

    @property
    def crc(self) -> str:
        """The crc of its last line."""
        return self.data[-11:-3].decode("ascii")

    @property
    def closed(self) -> bool:
        """Does it end with the closing line?"""
        return is_closing(self.data[self.data.rfind(b"\n", 0, -1) + 1 : -1])


def is_closing(line: bytes) -> bool:
    """Is this whole line the one that closes a segment? Its type is the first member behind the envelope."""
    return _CLOSED in line[:200] and line.find(b'"type":"') == line.find(_CLOSED) + 1


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
            found = whole_groups(data, self._seq, known)
            if found.length:
                block = Block(data[: found.length], self._seq, found.next - 1, self._offset)
                self._seq, self._offset, self._last = found.next, block.end, block
                yield block
                data = data[found.length :]
            if found.broken:
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
