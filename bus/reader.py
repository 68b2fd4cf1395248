"""Reading a log, from any process, while it is being written, without a lock.

What is not whole yet at the end of a live log is simply not there yet. Everything before is verified: crc, numbers
without a gap, and that each segment ends where its successor says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from orch.bus.codec import CODEC, BadLine
from orch.bus.errors import LogDamaged, damaged
from orch.bus.events import Event
from orch.bus.files import REAL, Files
from orch.bus.groups import ends_group
from orch.bus.places import Index, Point, group_start, line_of
from orch.bus.scan import CHUNK, Block, blocks
from orch.bus.segment import Span, chain, epochs, opened_file, trouble


def read(
    directory: Path, *, from_seq: int = 1, to_seq: int | None = None, strict: bool = True, files: Files = REAL
) -> Iterator[Event]:
    """The events `from_seq` to `to_seq`, both included; without `to_seq`, up to the last whole group there is now.

    An event that this orch does not know comes as `Unknown`. Raises LogDamaged with file and offset (`strict=False`:
    stops there instead, to see what is left of a damaged log), LogTrouble.
    """
    batches = read_batches(directory, from_seq=from_seq, to_seq=to_seq, strict=strict, files=files)
    return itertools.chain.from_iterable(batches)


def read_batches(
    directory: Path, *, from_seq: int = 1, to_seq: int | None = None, strict: bool = True, files: Files = REAL
) -> Iterator[list[Event]]:
    """As `read`, many events at once: for those who fold millions."""
    done = False
    while not done:
        known = epochs(directory, files)
        done = True
        try:
            for span, block in _blocks(chain(directory, files), files, from_seq, to_seq):
                # Asked after reading: whoever claims the log later finds, and counts, what we have just read.
                if span.end is None and epochs(directory, files) != known:
                    done = False
                    break
                yield _between(decoded(span, block), from_seq, to_seq)
                from_seq = max(from_seq, block.last + 1)
        except LogDamaged:
            if strict:
                raise


def read_spans(spans: Sequence[Span], files: Files, *, from_seq: int = 1, to_seq: int | None = None) -> Iterator[Event]:
    """The events of these segments."""
    for span, block in _blocks(spans, files, from_seq, to_seq):
        yield from _between(decoded(span, block), from_seq, to_seq)


def _blocks(spans: Sequence[Span], files: Files, from_seq: int, to_seq: int | None) -> Iterator[tuple[Span, Block]]:
    """The blocks that have these events, and the segments that they are in."""
    for span in spans:
        if span.end is not None and span.end.seq < from_seq:
            continue
        if to_seq is not None and span.first > to_seq:
            return
        offset, seq = seek(span, from_seq, files) if from_seq > span.first else (0, span.first)
        for block in blocks(files, span, offset, seq):
            yield span, block
            if to_seq is not None and block.last >= to_seq:
                return


def decoded(span: Span, block: Block) -> list[Event]:
    """The block's events."""
    try:
        events = CODEC.decode_block(block.data)
    except BadLine as e:
        raise LogDamaged(f"{span.path}: damaged in the block at byte {block.offset}: {e}") from e
    if len(events) != block.count:
        raise damaged(span.path, block.offset, "an event is missing, and the sum of its group is right")
    return events


def seek(span: Span, seq: int, files: Files) -> tuple[int, int]:
    """Offset and number of the first event of some group not far before event `seq`: a search by halves.

    A log that is damaged may lead it astray, but not to wrong events: numbers and crcs are checked from there on.
    """
    with trouble("read", span.path), opened_file(span.path, files) as handle:
        length = span.end.length if span.end else files.size(handle)
        place = group_start(files, handle, seq, Index(span.first), length, CHUNK)
    return (place.offset, place.seq) if place else (0, span.first)


def point_behind(directory: Path, seq: int, files: Files = REAL) -> Point | None:
    """The place behind event `seq`; None if it ends no group. What lies before is not looked at."""
    for span in chain(directory, files):
        if not span.first <= seq <= (span.end.seq if span.end else seq):
            continue
        with trouble("read", span.path), opened_file(span.path, files) as handle:
            length = span.end.length if span.end else files.size(handle)
            found = line_of(files, handle, seq, Index(span.first), length)
        if found is not None and ends_group(found[1][:-1]):
            offset, line, _ = found
            return Point(span.path.name, seq, offset + len(line), line[-11:-3].decode("ascii", "replace"))
    return None


def _between(events: list[Event], from_seq: int, to_seq: int | None) -> list[Event]:
    start = max(0, from_seq - events[0].seq)
    stop = len(events) if to_seq is None else max(0, to_seq + 1 - events[0].seq)
    return events if start == 0 and stop >= len(events) else events[start:stop]
