"""Cutting a damaged log back to the part of it that is whole.

What is kept are the segments up to a place, the end of a whole group. Afterwards the log is one that a leader with that
history has left without a word: the segment of that place is cut there, and every later one is emptied, so that it is
a claim whose maker died. No name goes away, since an older leader, should it wake up, takes them for the sign that it
was superseded; and the next epoch is a number that nobody had.

The order makes it safe to be killed, or to lose power, at any step; whoever repairs again finds the same place:

1. The next epoch is claimed: no leader that was ever there goes on from here. Only now is it looked at what is to be
   kept: whoever was taken for dead may have written until then, and what it was told is durable must be found.
2. All that is going to change is copied aside, durably.
3. The segment of the place is replaced by its own beginning. Its successor then says that it should be longer.
4. The later ones are replaced by empty files, the newest first.

Files are replaced, never cut in place: who still has one open writes into a file that has no name any more.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import msgspec

from orch.bus.errors import LogTrouble
from orch.bus.files import REAL, NotAFile
from orch.bus.segment import epochs, segment_name, trouble
from orch.bus.takeover import claim
from orch.bus.verify import Place

_PIECE = 1024 * 1024


class Cut(msgspec.Struct, frozen=True):
    """What cutting a log back to `place` changes: `shorten` the segment of the place, and `empty` those behind it.

    Segments that have no file yet, or an empty one, are not among them.
    """

    place: Place
    shorten: list[Path]
    empty: list[Path]

    @property
    def changed(self) -> list[Path]:
        """All segments that lose something."""
        return [*self.shorten, *self.empty]


def plan(directory: Path, place: Place) -> Cut:
    """Look at what there is behind `place`. Raises LogTrouble, also for what is no file: that is not ours to remove."""
    with trouble("look at", directory):
        longer = place.path.stat().st_size > place.offset
        behind = [directory / segment_name(epoch) for epoch in epochs(directory, REAL) if epoch > place.epoch]
        return Cut(place, [place.path] if longer else [], [path for path in behind if _length(path)])


def _length(path: Path) -> int:
    try:
        handle = REAL.open(path)
    except NotAFile as error:
        raise LogTrouble(f"{path}: {error.strerror}: move it away, then repair the log again") from error
    try:
        return REAL.size(handle)
    finally:
        REAL.close(handle)


def fence(directory: Path) -> int:
    """Claim the next epoch, before it is looked at what to keep. Gives its number. Raises LogTrouble."""
    epoch, handle = claim(directory, REAL)
    REAL.close(handle)
    return epoch


def repair(directory: Path, cut: Cut, aside: Path, epoch: int) -> Path:
    """Cut the log back; gives the directory that the changed segments were copied to, `aside` or one named like it.

    `epoch` is that of `fence`, and `cut` was planned after it. The run's lock must be held. Raises LogTrouble; the log
    is then as readable as before, and can be repaired again.
    """
    with trouble("repair", directory):
        aside = _copy_aside(cut.changed, aside)
        for path in cut.shorten:
            _replace(path, cut.place.offset)
        REAL.sync_dir(directory)
        for later in range(epoch - 1, cut.place.epoch, -1):  # those that are missing too: their names are a sign
            _replace(directory / segment_name(later), 0)
        REAL.sync_dir(directory)
    return aside


def _copy_aside(paths: list[Path], aside: Path) -> Path:
    """Copies under a name of their own; it is there only once they are complete and durable.

    What a repair that was killed has left of its copies is not mixed with ours.
    """
    numbered = (aside.with_name(f"{aside.name}-{number}") for number in itertools.count(2))
    aside = next(path for path in itertools.chain([aside], numbered) if not os.path.lexists(path))
    partial = aside.with_name(f"{aside.name}.part")
    if os.path.lexists(partial):
        shutil.rmtree(partial)
    REAL.make_dir(partial)
    for path in paths:
        _copy(path, partial / path.name, path.stat().st_size)
    REAL.sync_dir(partial)
    os.rename(partial, aside)
    REAL.sync_dir(aside.parent)
    return aside


def _replace(path: Path, length: int) -> None:
    """Put the first `length` bytes of the file in its place, at once."""
    temporary = path.with_name(f"{path.name}.new")
    _copy(path, temporary, length)
    os.replace(temporary, path)


def _copy(source: Path, target: Path, length: int) -> None:
    """The first `length` bytes, durably. What a killed repair left under the name is written over."""
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if length:
            with source.open("rb") as file:
                while length > 0 and (data := file.read(min(_PIECE, length))):
                    REAL.write(out, data)
                    length -= len(data)
        REAL.sync(out)
    finally:
        os.close(out)
