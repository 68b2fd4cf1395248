"""Looking at every line of a log, and saying all that is wrong with it, not only the first.

What a reader takes (`orch.bus.scan`) is taken here too, block by block. On top of that each line must hold an event, of
its segment's epoch and of the group that it stands in. Where a segment is refused, its lines are looked at one by one
from there on. What is void, or torn, is named, and is no damage.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from orch.bus.codec import CODEC, BadLine
from orch.bus.errors import LogDamaged
from orch.bus.events import Event
from orch.bus.files import REAL, Files
from orch.bus.groups import ends_group
from orch.bus.layout import Broken, Layout, Problem, lay
from orch.bus.scan import CHUNK, Block, blocks
from orch.bus.segment import Span, epochs, opened_file, segment_name, trouble

MOST = 100
"""Problems that are listed; the others are counted."""

_LONGEST = 64 * 1024 * 1024
"""Bytes without a newline that are taken for one line."""


class Part(msgspec.Struct):
    """A segment.

    `kind`    part of the log, void as a whole (nothing leads to it), or a claim (its maker wrote no first line)
    `length`  bytes that count
    `void`    bytes behind them that its successor made void
    `torn`    bytes behind them of a last group that was never whole, or is just being written
    """

    path: Path
    epoch: int
    kind: Literal["log", "void", "claim"] = "log"
    first: int = 0
    last: int = 0
    length: int = 0
    void: int = 0
    torn: int = 0

    @property
    def events(self) -> int:
        """How many events count."""
        return self.last - self.first + 1 if self.first else 0


class Place(msgspec.Struct, frozen=True):
    """The end of a whole group: its segment, the bytes and lines up to there, and the number of its last event."""

    epoch: int
    path: Path
    offset: int
    line: int
    seq: int


class Good(msgspec.Struct, frozen=True):
    """Whole groups of events, and the place behind them."""

    span: Span
    block: Block
    events: list[Event]
    end: Place

    def before(self, k: int) -> Place:
        """The place behind the last whole group before the event at index `k`."""
        lines = self.block.lines
        while k and not ends_group(lines[k - 1]):
            k -= 1
        size = sum(map(len, lines[:k])) + k
        line = self.end.line - self.block.count + k
        return Place(self.span.epoch, self.span.path, self.block.offset + size, line, self.block.seq + k - 1)

    def problem(self, k: int, why: str) -> Problem:
        """Something is wrong with the event at index `k`."""
        lines = self.block.lines
        offset = self.block.offset + sum(map(len, lines[:k])) + k
        return Problem(self.span.path, offset, self.end.line - self.block.count + k + 1, self.block.seq + k, why)


class Verification:
    """One look at a log.

    `problems`  what is wrong, oldest first, `MOST` at most; `more`: how many others
    `parts`     the segments that were looked at, by epoch
    """

    def __init__(self, directory: Path, files: Files = REAL) -> None:
        self.problems: list[Problem] = []
        self.more = 0
        self.parts: dict[int, Part] = {}
        self._directory = directory
        self._files = files
        self._layout = Layout([])
        self._place: Place | None = None

    def add(self, problem: Problem) -> None:
        """Note what is wrong."""
        if len(self.problems) < MOST:
            self.problems.append(problem)
        else:
            self.more += 1

    def run(self) -> Iterator[Good]:
        """All whole groups, oldest first; what comes while `problems` is empty is the log.

        A log that is being written ends with the last whole group that there is. Raises LogTooNew, LogTrouble.
        """
        moved = True
        while moved:
            self._layout = lay(self._directory, self._files)
            moved = False
            for item in self._from_here(self._layout.items):
                moved = yield from self._item(item)
                if moved:
                    break
        self._note_others()

    def _from_here(self, items: list[Span | Broken]) -> list[Span | Broken]:
        """What is left to look at: all, unless somebody has taken over while we looked."""
        place = self._place
        if place is None:
            return items
        here = (k for k, item in enumerate(items) if isinstance(item, Span) and item.epoch == place.epoch)
        return items[next(here, 0) :]

    def _item(self, item: Span | Broken) -> Generator[Good, None, bool]:
        if isinstance(item, Span):
            return (yield from self._segment(item))
        self.add(item.problem)
        if item.epoch:
            place = Place(item.epoch, item.problem.path, 0, 0, 0)
            self._look_through(place, None, sure=False)
        return False

    # One segment ----------------------------------------------------------------------------------------------------

    def _segment(self, span: Span) -> Generator[Good, None, bool]:
        """Gives True if another leader has begun, so that the segments must be looked at again."""
        part = self.parts.setdefault(span.epoch, Part(span.path, span.epoch))
        place = self._place
        if place is None or place.epoch != span.epoch:
            place = Place(span.epoch, span.path, 0, 0, span.first - 1)
        try:
            for block in blocks(self._files, span, place.offset, place.seq + 1):
                # Asked after reading: whoever claims the log later finds, and counts, what we have just read.
                if span.end is None and epochs(self._directory, self._files) != self._layout.known:
                    return True
                place = Place(span.epoch, span.path, block.end, place.line + block.count, block.last)
                part.first, part.last, part.length = span.first, place.seq, place.offset
                self._place = place
                good, wrong = _checked(Good(span, block, [], place))
                if good.events:
                    yield good
                for problem in wrong:
                    self.add(problem)
        except LogDamaged as error:
            self._refused(span, place, error)
        else:
            self._measure(span, part)
        return False

    def _measure(self, span: Span, part: Part) -> None:
        """What is behind the part that counts?"""
        with trouble("read", span.path), opened_file(span.path, self._files) as handle:
            rest = self._files.size(handle) - part.length
        if span.end is None:
            part.torn = rest
        else:
            part.void = rest

    def _refused(self, span: Span, place: Place, error: LogDamaged) -> None:
        """The reader has refused the segment. Where its lines do not show why, its own words must do."""
        before = len(self.problems) + self.more
        self._look_through(place, span.end.length if span.end else None, sure=True)
        if len(self.problems) + self.more == before:
            self.add(Problem(span.path, error.offset, place.line + 1, place.seq + 1, error.why))

    def _note_others(self) -> None:
        """Segments that nothing leads to."""
        for epoch in (*self._layout.void, *self._layout.claims):
            path = self._directory / segment_name(epoch)
            try:
                with trouble("read", path), opened_file(path, self._files) as handle:
                    size = self._files.size(handle)
            except LogDamaged as error:  # no file at all: nothing of it counts, and yet it does not belong there
                self.add(Problem(path, 0, 0, 0, error.why))
                continue
            claim = not size or epoch in self._layout.claims
            self.parts[epoch] = Part(path, epoch, "claim" if claim else "void", void=size)

    # Line by line ---------------------------------------------------------------------------------------------------

    def _look_through(self, place: Place, end: int | None, *, sure: bool) -> None:
        """Add what is wrong from `place` on, up to the offset `end`, or that of the file (where a cut line is torn).

        `sure`: the first line must be that of the event behind `place`; else it is known to be broken.
        """
        seq, line = place.seq + 1, place.line
        with trouble("read", place.path), opened_file(place.path, self._files) as handle:
            for offset, text, whole in each_line(self._files, handle, place.offset, end):
                line += 1
                if not whole and end is None:
                    break
                event = decoded_or_none(text) if whole else None
                why = _why(event, place.epoch, seq, sure=sure)
                if why and (line > 1 or sure):
                    self.add(Problem(place.path, offset, line, seq if sure else 0, why))
                seq, sure = (event.seq + 1, True) if event else (seq + 1, False)


def each_line(files: Files, handle: int, offset: int, end: int | None = None) -> Iterator[tuple[int, bytes, bool]]:
    """Offset and text of each line from `offset` on, and whether it has its newline. The last one may have none."""
    data, size = b"", CHUNK
    while more := files.read(handle, offset + len(data), _at_most(size, end, offset + len(data))):
        data += more
        size = max(CHUNK, len(data))
        if b"\n" not in more and len(data) < _LONGEST:
            continue
        if b"\n" not in more:  # no line is as long as that
            yield offset, data, False
            offset, data = offset + len(data), b""
        *lines, data = data.split(b"\n")
        for line in lines:
            yield offset, line, True
            offset += len(line) + 1
        size = CHUNK
    if data:
        yield offset, data, False


def decoded_or_none(line: bytes) -> Event | None:
    """The event in a line; None if the line is broken."""
    try:
        return CODEC.decode(line)
    except BadLine:
        return None


def _at_most(size: int, end: int | None, offset: int) -> int:
    return size if end is None else max(0, min(size, end - offset))


def _why(event: Event | None, epoch: int, seq: int, *, sure: bool) -> str:
    """What is wrong with a single line; empty if nothing is. `sure`: event `seq` must be here."""
    if event is None:
        return "the line is broken"
    if sure and event.seq != seq:
        return f"this is event {event.seq}"
    if event.epoch != epoch:
        return f"this is event {event.seq} of epoch {event.epoch}, and the segment is that of epoch {epoch}"
    return ""


# Whole groups --------------------------------------------------------------------------------------------------------


def _checked(found: Good) -> tuple[Good, list[Problem]]:
    """The groups before the first line that is no event, or not one that belongs there; and what is wrong."""
    lines = found.block.lines
    try:
        events: Sequence[Event | None] = CODEC.decode_block(found.block.data)
    except BadLine:
        events = [decoded_or_none(line) for line in lines]
    wrong = list(_misfits(found, lines, events))
    if not wrong:
        return Good(found.span, found.block, list(filter(None, events)), found.end), []
    end = found.before(wrong[0].seq - found.block.seq)
    count = end.seq + 1 - found.block.seq
    data = found.block.data[: end.offset - found.block.offset]
    block = Block(data, found.block.seq, end.seq, found.block.offset)
    return Good(found.span, block, list(filter(None, events[:count])), end), wrong


def _misfits(found: Good, lines: list[bytes], events: Sequence[Event | None]) -> Iterator[Problem]:
    if len(lines) != found.block.count:
        yield found.problem(0, "an event is missing, and the sum of its group is right")
        return
    group = seq = found.block.seq
    epoch = found.span.epoch
    for event, line in zip(events, lines, strict=True):
        if event is None:
            yield found.problem(seq - found.block.seq, "the line is no event, though its crc is right")
        elif event.epoch != epoch or event.group != group or event.seq != seq:
            at = f"epoch {event.epoch} and group {event.group}"
            yield found.problem(
                seq - found.block.seq,
                f"the line says that it is event {event.seq} of {at}; here epoch {epoch} and group {group} are written",
            )
        seq += 1
        if ends_group(line):
            group = seq
