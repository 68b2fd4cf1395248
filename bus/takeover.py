"""Taking over a log: verify what is there, claim the next epoch, and find where the predecessor ends.

The protocol is described in `orch.bus.log`. Everything here blocks.

A trusted point spares reading what lies before it. It says of a place in a segment: up to here all was whole, and is
durable. Whoever names one has read that far, or has written it and synced it. The line that it names is looked for; if
it stands there, and ends a whole group, the walk begins with that group or not far before it, else at the beginning of
the log, as if there were no point. Nothing of the take-over rests on what is not walked:

- Which segments there are, and where each ends, is said by first lines, which are all read.
- Where the predecessor ends is found by walking on after the claim. A commit that an older leader was told is durable
  was so before the claim, so it is found, wherever the walk began.
- The point is not beyond that end: it is used only if it lies within the part of its segment that counts, and there the
  line with its number and crc stands, and ends a group.
- What is written again is the predecessor's last group, which was walked, also if the point is right behind it. A
  relaxed segment is written again from its beginning.

What is lost is that damage before the point is refused at once: it is refused when it is read. (A relaxed segment is
cut back there if it is read as a whole. Behind a point it is not: what is there was durable, and may not be missing.)
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import msgspec

from orch.bus.errors import LogTrouble, damaged
from orch.bus.events import Predecessor
from orch.bus.files import Files
from orch.bus.groups import whole_groups
from orch.bus.places import Index, Place, Point, group_start, stands
from orch.bus.scan import blocks
from orch.bus.segment import Span, chain, epochs, opened_file, segment_name, trouble

_AT_ONCE = 4 * 1024 * 1024
"""Bytes."""


class Past(msgspec.Struct):
    """The log before this epoch: its segments with an index each, and where the last one ends.

    `end` is None, and `seq` 0, if there is nothing. `trusted`: what lies before that point was not verified.
    """

    spans: list[Span] = []
    indexes: list[Index] = []
    end: Predecessor | None = None
    trusted: Point | None = None

    @property
    def seq(self) -> int:
        """Number of the last event."""
        return self.end.seq if self.end else 0

    def find(self, seq: int) -> tuple[Span, Index]:
        """The segment that has event `seq`, and its index."""
        k = bisect_right(self.spans, seq, key=_first) - 1
        return self.spans[k], self.indexes[k]


def survey(directory: Path, files: Files, trusted: Point | None = None) -> Past:
    """Read and verify all that is there, or what is behind the trusted point. Raises LogDamaged, LogTrouble."""
    past = Past(spans=chain(directory, files))
    past.indexes = [Index(span.first) for span in past.spans]
    first, place = 0, None
    for k, span in enumerate(past.spans):
        found = _place_of(span, past.indexes[k], trusted, files) if trusted else None
        if found is not None:
            first, place, past.trusted = k, found, trusted
    for span, index in zip(past.spans[first:], past.indexes[first:], strict=True):
        past.end = _walk(files, span, index, place)
        place = None
    return past


def _place_of(span: Span, index: Index, point: Point, files: Files) -> Place | None:
    """Where some whole group begins not far before the point; None if the point is not one of this segment as it is."""
    if span.path.name != point.segment or not span.first <= point.seq:
        return None
    if span.end is not None and span.end.length < point.length:
        return None
    with trouble("read", span.path), opened_file(span.path, files) as handle:
        if not stands(files, handle, point, span.epoch):
            return None
        place = group_start(files, handle, point.seq, index, point.length)
        if place is None:
            return None
        found = whole_groups(files.read(handle, place.offset, point.length - place.offset), place.seq)
    return place if (place.offset + found.length, found.next) == (point.length, point.seq + 1) else None


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
        before = survey(directory, files, before.trusted)
    if before.end is None:
        return before
    last = before.spans[-1]
    end = _walk(files, last, before.indexes[-1], Place(before.end.seq + 1, before.end.length), before.end)
    _secure(files, last, before.indexes[-1], end)
    spans = [*before.spans[:-1], msgspec.structs.replace(last, end=end)]
    return Past(spans=spans, indexes=before.indexes, end=end, trusted=before.trusted)


def _secure(files: Files, span: Span, index: Index, end: Predecessor) -> None:
    """Make durable what we are about to build upon: written once more, and synced.

    A sync alone would not do. When one fails, the kernel takes the pages for written all the same, and shows them to
    us; the next sync has nothing to do and succeeds, and a power cut takes them away (fsync(2), "EIO"). Only the last
    group can be like that, since each was synced before the next one was written; of a relaxed segment, anything.
    """
    with trouble("read", span.path), opened_file(span.path, files) as handle:
        offset = 0 if span.opened.durability == "relaxed" else _last_group(files, handle, span, index, end)
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


def _last_group(files: Files, handle: int, span: Span, index: Index, end: Predecessor) -> int:
    """Offset of the group that ends there. Raises LogDamaged."""
    place = group_start(files, handle, end.seq, index, end.length)
    if place is None:
        raise damaged(span.path, end.length, f"the group that ends with event {end.seq} has no beginning")
    return place.offset


def _walk(files: Files, span: Span, index: Index, place: Place | None, end: Predecessor | None = None) -> Predecessor:
    """Verify a segment from a place on, note its lines in `index`, and say where it ends: `end` if nothing comes."""
    start = (place.offset, place.seq) if place else (0, 0)
    for block in blocks(files, span, *start):
        if block.data.count(b"\n") != block.count:
            raise damaged(span.path, block.offset, "an event is missing, and the sum of its group is right")
        index.add(block.seq, block.offset)
        end = Predecessor(segment=span.path.name, seq=block.last, length=block.end, crc=block.crc)
    if end is None:  # there is a whole first line, or the segment would not be part of the chain
        raise LogTrouble(f"cannot read the log {span.path}: it changes while it is read")
    return end


def _first(span: Span) -> int:
    return span.first
