"""Is a log whole, and one that leaders have written? And what is lost if it is cut back?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from orch.bus import events as ev
from orch.bus.codec import Unknown
from orch.bus.errors import LogDamaged, LogTooNew, LogTrouble
from orch.bus.files import REAL
from orch.bus.repair import Cut, fence, plan, repair
from orch.bus.segment import opened_file, trouble
from orch.bus.verify import Good, Place, Verification, decoded_or_none, each_line
from orch.state.fold import apply
from orch.state.graph import IllegalTransition
from orch.state.law import JobState
from orch.state.model import State

Progress = Callable[[int], None]
"""Hears the number of the last event that was looked at, now and then."""


class Audit:
    """A log that has been looked at, line by line and transition by transition.

    `found`    problems, and the segments
    `end`      the end of what is whole and legal; None: there is nothing
    `too_new`  an event is of a type that this orch does not know: from there on nobody can tell
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.found = Verification(directory, REAL)
        self.run = ""
        self.end: Place | None = None
        self.too_new = False
        self._state: State | None = State()

    @property
    def whole(self) -> bool:
        """Is there nothing wrong?"""
        return not self.found.problems

    def look(self, progress: Progress = lambda _: None, each: Callable[[ev.Event], None] = lambda _: None) -> Audit:
        """Look at everything. `each` gets every event that is whole. Raises LogTooNew, LogTrouble."""
        for good in self.found.run():
            self._fold(good)
            for event in good.events:
                each(event)
            progress(good.end.seq)
        return self

    def _fold(self, good: Good) -> None:
        if self._state is None or self.found.problems:
            return
        for k, event in enumerate(good.events):
            try:
                apply(self._state, event)
            except IllegalTransition as error:
                self.too_new = isinstance(event, Unknown)
                self.found.add(good.problem(k, str(error)))
                before = good.before(k)
                if before.offset > good.block.offset:
                    self.end = before
                self._state = None
                return
        self.end = good.end
        if not self.run and self._state.created:
            self.run = self._state.created.run


class Loss(msgspec.Struct, frozen=True):
    """What is behind the end of what is whole: events `first` to `last`, as far as that can be told.

    `unreadable`  lines that tell nothing
    `results`     jobs whose results were there, and are not in what is kept
    """

    first: int
    last: int
    unreadable: int
    results: list[int]


def loss(cut: Cut, state: State) -> Loss:
    """What cutting the log back takes away; `state` is that at the cut."""
    last, unreadable = cut.place.seq, 0
    results: set[int] = set()
    for path in cut.changed:
        for event in _lines(path, cut.place.offset if path == cut.place.path else 0):
            if event is None:
                unreadable += 1
                continue
            last = max(last, event.seq)
            if isinstance(event, ev.Succeeded) and not _has(state, event.job):
                results.add(event.job)
    return Loss(cut.place.seq + 1, last, unreadable, sorted(results))


def _has(state: State, job: int) -> bool:
    row = state.jobs.get(job)
    return row is not None and row.state in (JobState.SUCCEEDED, JobState.DONE)


def _lines(path: Path, offset: int) -> Iterator[ev.Event | None]:
    with trouble("read", path), opened_file(path, REAL) as handle:
        for _, line, whole in each_line(REAL, handle, offset):
            yield decoded_or_none(line) if whole else None


class Repair(msgspec.Struct, frozen=True):
    """What was kept of a log, or would be. `aside` has the segments as they were; None: nothing was changed.

    `state` is that at the end of what is kept.
    """

    audit: Audit
    kept: int
    lost: Loss | None = None
    changed: list[Path] = []
    aside: Path | None = None
    state: State | None = None

    @property
    def shortened(self) -> Path | None:
        """The segment that keeps its beginning, of those that are changed."""
        end = self.audit.end
        return end.path if end and end.path in self.changed else None


def mend(directory: Path, stamp: str, *, dry_run: bool = False, progress: Progress = lambda _: None) -> Repair:
    """Cut a damaged log back to what is whole and legal. The run's lock must be held. A whole log is left as it is.

    `stamp` (a time) becomes part of the name of the directory with the copies. Raises LogDamaged if nothing could be
    kept, LogTooNew if the log is not damaged but not to be understood, LogTrouble.
    """
    found = _planned(directory, progress)
    if found.lost is None or dry_run:
        return found
    epoch = fence(directory)
    found = _planned(directory, progress)  # a leader that was taken for dead may have written in between
    if found.lost is None:
        return found
    assert found.audit.end is not None
    cut = plan(directory, found.audit.end)
    aside = repair(directory, cut, directory.with_name(f"{directory.name}.damaged-{stamp}"), epoch)
    if not _is_whole(directory, found.kept):
        raise LogTrouble(f"the log {directory} is still damaged after its repair; what it was is in {aside}")
    return msgspec.structs.replace(found, aside=aside)


def _planned(directory: Path, progress: Progress) -> Repair:
    """What would be done now."""
    audit = Audit(directory).look(progress)
    end = audit.end
    if audit.whole:
        return Repair(audit, end.seq if end else 0)
    if audit.too_new:
        raise LogTooNew(f"{audit.found.problems[-1]}; repair the log with the version that wrote it, or a newer one")
    if end is None:
        raise LogDamaged(f"{audit.found.problems[0]}; nothing of this log could be kept, so it is left as it is")
    cut = plan(directory, end)
    state = state_at(directory, end.seq)
    return Repair(audit, end.seq, loss(cut, state), cut.changed, None, state)


def state_at(directory: Path, seq: int) -> State:
    """The state after event `seq`, also of a log that is damaged behind it."""
    state = State()
    for event in _events(Verification(directory, REAL).run(), seq):
        apply(state, event)
    return state


def _events(found: Iterable[Good], seq: int) -> Iterator[ev.Event]:
    for good in found:
        for event in good.events:
            if event.seq > seq:
                return
            yield event


def _is_whole(directory: Path, seq: int) -> bool:
    audit = Audit(directory).look()
    return audit.whole and audit.end is not None and audit.end.seq == seq
