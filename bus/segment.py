"""Segments: the files of a log, one an epoch, and how they follow each other.

The highest segment with a whole first line is the log's last one; from there each first line (`opened`) names its
predecessor and where that one ends. What lies beyond is void, and so is a segment that no other one leads to. A
segment without a whole first line is a claim whose maker died, or is about to write it; it counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from orch.bus.codec import CODEC, BadLine, Unknown
from orch.bus.errors import LogDamaged, LogTooNew, LogTrouble, damaged
from orch.bus.events import Event, Opened, Predecessor
from orch.bus.files import Files, NotAFile
from orch.bus.torn import starts_like_a_line

_NAME = re.compile(r"([0-9]{6}|[1-9][0-9]{6,14})\.events\.jsonl")
"""Exactly the names that `segment_name` gives: one epoch, one name. Whatever else lies there is none of ours."""

_FIRST_LINE = 64 * 1024
"""Bytes read in search of a first line; real ones are some hundred bytes long."""
LONGEST_FIRST_LINE = 2 * 1024
"""Bytes. What is longer, and has none, is no claim whose maker died."""

_SECOND_LINE = 4 * 1024 * 1024
"""Bytes read behind a broken first line in search of a second one."""


class Span(msgspec.Struct, frozen=True):
    """A segment's part in the log. `end` is where its successor says that it ends; None: it has no successor."""

    path: Path
    epoch: int
    opened: Opened
    end: Predecessor | None = None

    @property
    def first(self) -> int:
        """Number of its first event."""
        return self.opened.seq


def segment_name(epoch: int) -> str:
    """File name of an epoch's segment."""
    return f"{epoch:06d}.events.jsonl"


def epochs(directory: Path, files: Files) -> list[int]:
    """Epochs that have a file, claims included, in order."""
    with trouble("list", directory):
        names = files.list(directory)
    return sorted(filter(None, map(_epoch_in, names)))


def epoch_of(end: Predecessor) -> int:
    """The epoch of the segment that `end` names; 0 if it is no segment's name."""
    return _epoch_in(end.segment)


def _epoch_in(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def chain(directory: Path, files: Files) -> list[Span]:
    """The log's segments, oldest first; empty if nothing was ever written. Raises LogDamaged, LogTooNew, LogTrouble."""
    found: list[Span] = []
    for epoch in reversed(epochs(directory, files)):
        path = directory / segment_name(epoch)
        opened = first_line(path, epoch, files)
        if opened is not None:
            found.append(Span(path, epoch, opened))
            break
    while found and (end := found[-1].opened.after) is not None:
        found.append(_predecessor(found[-1], end, files))
        if found[-1].opened.run != found[-2].opened.run:
            raise foreign(found[-2], found[-1].opened.run)
    if found and found[-1].first != 1:
        raise damaged(found[-1].path, 0, f"event {found[-1].first} is the first one")
    return found[::-1]


def foreign(span: Span, run: str) -> LogDamaged:
    """The error for a segment in the log of `run` that is of another one."""
    return damaged(span.path, 0, f"this is a segment of the run {span.opened.run}, in the log of the run {run}")


def first_line(path: Path, epoch: int, files: Files) -> Opened | None:
    """The `opened` event of a segment; None if its first line is not (yet) whole. Raises LogDamaged, LogTooNew."""
    with trouble("read", path), opened_file(path, files) as handle:
        head = files.read(handle, 0, _FIRST_LINE)
        event = _decoded(head)
        if isinstance(event, Opened) and event.epoch == epoch:
            return event
        head = files.read(handle, 0, _SECOND_LINE)
    if isinstance(event, Unknown) and event.kind == "opened":
        raise LogTooNew(f"{path}: was written by a newer orch (version {event.v} of `opened`)")
    if event is not None:
        raise damaged(path, 0, f"this is not the first line of segment {epoch}")
    if starts_like_a_line(head, 1):
        raise damaged(path, 0, "the first line is broken, and others follow")
    if len(head) > LONGEST_FIRST_LINE:  # it is written alone, and made durable before anything follows it
        raise damaged(path, 0, "there is no first line, and more bytes than one has")
    return None


@contextmanager
def trouble(what: str, path: Path) -> Iterator[None]:
    """Turn OSError into LogTrouble; into LogDamaged where something else stands in a segment's place."""
    try:
        yield
    except NotAFile as e:
        raise damaged(path, 0, e.strerror or str(e)) from e
    except OSError as e:
        raise LogTrouble(f"cannot {what} the log {path}: {e.strerror or e}") from e


@contextmanager
def opened_file(path: Path, files: Files) -> Iterator[int]:
    """A handle for reading, closed at the end."""
    handle = files.open(path)
    try:
        yield handle
    finally:
        files.close(handle)


def _decoded(head: bytes) -> Event | None:
    newline = head.find(b"\n")
    if newline < 0:
        return None
    try:
        return CODEC.decode(head[:newline])
    except BadLine:
        return None


def _predecessor(successor: Span, end: Predecessor, files: Files) -> Span:
    epoch = epoch_of(end)
    if not 0 < epoch < successor.epoch or end.seq != successor.first - 1:
        raise damaged(successor.path, 0, f"it cannot follow on {end.segment} at event {end.seq}")
    path = successor.path.parent / segment_name(epoch)
    try:
        opened = first_line(path, epoch, files)
    except LogTrouble as e:
        if isinstance(e.__cause__, FileNotFoundError):
            raise damaged(path, 0, f"the file is missing, and {successor.path.name} follows") from e
        raise
    if opened is None:
        raise damaged(path, 0, f"the first line is broken, and {successor.path.name} follows")
    return Span(path, epoch, opened, end)
