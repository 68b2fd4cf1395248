"""The segments of a log that may be damaged: which count, in their order, and where the chain of them is broken.

`orch.bus.segment.chain` refuses a log whose segments do not lead to each other. Here what is wrong is noted, and the
search goes on with the next older segment, as if it were the last one: so that everything that is there is looked at.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from orch.bus.errors import LogDamaged
from orch.bus.events import Predecessor
from orch.bus.files import Files, NotAFile
from orch.bus.segment import Span, epoch_of, epochs, first_line, foreign, segment_name


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and where: file, offset in bytes, number of the line from 1, number of the event expected there.

    0 for a line or an event that cannot be told.
    """

    path: Path
    offset: int
    line: int
    seq: int
    why: str

    def __str__(self) -> str:
        where = [f"byte {self.offset}"]
        where += [f"line {self.line}"] if self.line else []
        where += [f"event {self.seq}"] if self.seq else []
        return f"{self.path}: {', '.join(where)}: {self.why}"


class Broken(msgspec.Struct, frozen=True):
    """A place where the chain is broken. `epoch`: the segment there, if its lines can be looked at; else 0."""

    problem: Problem
    epoch: int = 0


class Layout(msgspec.Struct):
    """`items`: what counts, oldest first. `void`: segments that nothing leads to. `claims`: those without a first line.

    `known`: the epochs that there were.
    """

    known: list[int]
    items: list[Span | Broken] = []
    void: list[int] = []
    claims: list[int] = []


def lay(directory: Path, files: Files) -> Layout:
    """The segments in `directory`. Raises LogTooNew, LogTrouble."""
    return _Search(directory, files).run()


class _Search:
    """From the newest segment down. `wanted` is the predecessor that was named; `any`: the next one that has a line."""

    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files
        self._layout = Layout(epochs(directory, files))
        self._wanted: Predecessor | None = None
        self._any = True

    def run(self) -> Layout:
        for epoch in reversed(self._layout.known):
            if self._wanted is not None and epoch < epoch_of(self._wanted):
                self._missing()
            if self._any or (self._wanted is not None and epoch == epoch_of(self._wanted)):
                self._look(epoch)
            else:
                self._layout.void.append(epoch)
        if self._wanted is not None:
            self._missing()
        self._layout.items.reverse()
        self._note_foreign()
        return self._layout

    def _note_foreign(self) -> None:
        """All segments must be of one run, that of the oldest."""
        items, run = self._layout.items, ""
        for k, item in enumerate(items):
            if isinstance(item, Span):
                run = run or item.opened.run
                if item.opened.run != run:
                    items[k] = Broken(Problem(item.path, 0, 1, item.first, foreign(item, run).why))

    def _look(self, epoch: int) -> None:
        path = self._directory / segment_name(epoch)
        try:
            opened = first_line(path, epoch, self._files)
        except LogDamaged as error:
            if error.path is None:  # too new: nothing is known to be wrong
                raise
            self._broken(path, error.why, 0 if isinstance(error.__cause__, NotAFile) else epoch)
            return
        if opened is None:
            if self._wanted is None:
                self._layout.claims.append(epoch)
            else:
                self._broken(path, "the first line is broken, and others follow", epoch)
            return
        after = opened.after
        self._layout.items.append(Span(path, epoch, opened, self._wanted))
        self._wanted, self._any = after, False
        if after is None and opened.seq != 1:
            self._broken(path, f"event {opened.seq} is the first one")
        elif after is not None and not (0 < epoch_of(after) < epoch and after.seq == opened.seq - 1):
            self._broken(path, f"it cannot follow on {after.segment} at event {after.seq}")

    def _missing(self) -> None:
        assert self._wanted is not None
        self._broken(self._directory / self._wanted.segment, "the file is missing, and others follow")

    def _broken(self, path: Path, why: str, epoch: int = 0) -> None:
        """The chain is broken here: what is older is looked at from the newest on."""
        self._layout.items.append(Broken(Problem(path, 0, 1 if epoch else 0, 0, why), epoch))
        self._wanted, self._any = None, True
