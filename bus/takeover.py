"""Taking over a log: verify what is there, claim the next epoch, and find where the predecessor ends.

The protocol is described in `orch.bus.log`. Everything here blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import msgspec

from orch.bus.codec import CODEC
from orch.bus.errors import LogTrouble
from orch.bus.events import Predecessor
from orch.bus.files import Files
from orch.bus.scan import Index, blocks
from orch.bus.segment import Span, chain, epochs, opened_file, segment_name, trouble

_AT_ONCE = 4 * 1024 * 1024
"""Bytes."""


class Past(msgspec.Struct):
    """The verified log before this epoch: its segments with an index each, and where the last one ends.

    `end` is None, and `seq` 0, if there is nothing.
    """

    spans: list[Span] = []
    indexes: list[Index] = []
    end: Predecessor | None = None

    @property
    def seq(self) -> int:
        """Number of the last event."""
        return self.end.seq if self.end else 0

    def find(self, seq: int) -> tuple[Span, Index]:
        """The segment that has event `seq`, and its index."""
        k = bisect_right(self.spans, seq, key=_first) - 1
        return self.spans[k], self.indexes[k]


def survey(directory: Path, files: Files) -> Past:
    """Read and verify all that is there. Raises LogDamaged, LogTrouble."""
    past = Past(spans=chain(directory, files))
    for span in past.spans:
        index = Index()
        past.end = _walk(files, span, index, None)
        past.indexes.append(index)
    return past


def claim(directory: Path, files: Files) -> tuple[int, int]:
    """Create the next epoch's segment, empty; gives its number and a handle to write to it."""
    with trouble("claim a segment of", directory):
        while True:
            epoch = max(epochs(directory, files), default=0) + 1
            try:
                handle = files.create(directory / segment_name(epoch))
            except FileExistsError:
                continue  # somebody else was faster; whoever claims last leads
            try:
                files.sync_dir(directory)
            except BaseException:  # nobody else will close it, whatever went wrong
                files.close(handle)
                raise
            return epoch, handle


def rescan(directory: Path, before: Past, files: Files) -> Past:
    """`before`, brought up to date after the claim, with its last segment ended and synced."""
    spans = chain(directory, files)
    if spans != before.spans:  # somebody else took over at the same time
        before = survey(directory, files)
    if before.end is None:
        return before
    last = before.spans[-1]
    end = _walk(files, last, before.indexes[-1], before.end)
    _secure(files, last, before.indexes[-1], end)
    spans = [*before.spans[:-1], msgspec.structs.replace(last, end=end)]
    return Past(spans=spans, indexes=before.indexes, end=end)


def _secure(files: Files, span: Span, index: Index, end: Predecessor) -> None:
    """Make durable what we are about to build upon: written once more, and synced.

    A sync alone would not do. When one fails, the kernel takes the pages for written all the same, and shows them to
    us; the next sync has nothing to do and succeeds, and a power cut takes them away (fsync(2), "EIO"). Only the last
    group can be like that, since each was synced before the next one was written; of a relaxed segment, anything.
    """
    with trouble("read", span.path), opened_file(span.path, files) as handle:
        offset = index.before(end.seq)[1]
        last = files.read(handle, offset, end.length - offset).rstrip(b"\n").rpartition(b"\n")[2]
        group = CODEC.decode(last).group
        offset = 0 if span.opened.durability == "relaxed" else index.before(group)[1]
        with trouble("sync", span.path):
            again = files.open_again(span.path)
            try:
                while offset < end.length:
                    data = files.read(handle, offset, min(_AT_ONCE, end.length - offset))
                    files.write_over(again, offset, data)
                    offset += len(data)
                files.sync(again)
            finally:
                files.close(again)


def _walk(files: Files, span: Span, index: Index, known: Predecessor | None) -> Predecessor:
    """Verify a segment from `known` on, note its lines in `index`, and say where it ends."""
    start = (known.length, known.seq + 1) if known else (0, 0)
    end = known
    for block in blocks(files, span, *start):
        index.add(block.seq, block.offset, [len(line) + 1 for line in block.lines])
        end = Predecessor(segment=span.path.name, seq=block.last, length=block.end, crc=block.crc)
    if end is None:  # there is a whole first line, or the segment would not be part of the chain
        raise LogTrouble(f"cannot read the log {span.path}: it changes while it is read")
    return end


def _first(span: Span) -> int:
    return span.first
