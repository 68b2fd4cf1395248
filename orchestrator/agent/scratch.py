"""Scratch directories of attempts: where they are, and how they are removed, whatever is in them.

Commands and forks are lent one, which the next one gets if the first has left nothing in it: nearly all do, and on some
file systems to make, rename or remove a directory takes longer than to start a program.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable

from orch.work import spares


class Scratch:
    """Below a runtime directory. What is left in a scratch directory is removed by a helper process, in no hurry.

    `kept`: the directory in which those are put that are not removed; empty: here too.
    """

    def __init__(self, runtime: str, kept: str = "") -> None:
        self.root = os.path.join(runtime, "scratch")
        self._kept = kept or os.path.join(runtime, spares.KEPT)
        self._trash = os.path.join(runtime, spares.TRASH)
        self._numbers = itertools.count(1)
        self.helpers: dict[int, str] = {}
        self._spare = os.path.join(runtime, spares.SPARE)
        self._places = os.path.join(runtime, "lent")
        self._lent: set[str] = set()
        self._free: list[tuple[str, int]] = []  # with the time of its last change
        for path in (self.root, self._trash, self._spare, self._places):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def path(self, name: str) -> str:
        """Where the scratch directory of that name is; it is not made here."""
        return os.path.join(self.root, name)

    def lend(self) -> str:
        """An empty directory for an attempt. Raises `OSError`."""
        path = self._unused()
        if not path:
            path = os.path.join(self._places, str(next(self._numbers)))
            os.mkdir(path, 0o700)
        self._lent.add(path)
        return path

    def _unused(self) -> str:
        while self._free:
            path, changed = self._free.pop()
            if _changed(path) == changed:
                return path
            self._throw_away(path)  # somebody wrote there a moment too late
        return ""

    def take_back(self, path: str) -> bool:
        """Nothing of the attempt runs any more. False if it was not lent, or something is in it: to be removed."""
        if path not in self._lent:
            return False
        self._lent.discard(path)
        changed = _changed(path)
        if not changed or os.listdir(path):
            return False
        self._free.append((path, changed))
        return True

    def remove(self, path: str) -> None:
        """Remove a scratch directory. Not there: fine."""
        self._lent.discard(path)
        if not spares.drop(path):
            self._throw_away(path)

    def keep(self, path: str, name: str) -> str:
        """Put a scratch directory aside, under a name; where it is now, for people. Empty if nothing is in it."""
        self._lent.discard(path)
        try:
            if path != self.path(name):
                os.rename(path, self.path(name))
                path = self.path(name)
            return spares.keep(path, self._kept)
        except OSError as error:  # a full disk, say: it stays until another agent clears up
            return f"{path} (it cannot be put aside: {error.strerror or error})"

    def remove_all(self) -> None:
        """Remove what an earlier agent has left."""
        for directory in (self.root, self._trash, self._spare, self._places):
            with contextlib.suppress(OSError), os.scandir(directory) as scan:
                for entry in list(scan):
                    self._throw_away(entry.path)

    def _throw_away(self, path: str) -> None:
        target = os.path.join(self._trash, f"{os.getpid()}.{next(self._numbers)}")
        try:
            os.rename(path, target)
        except OSError:
            target = path
        program = shutil.which("rm") or ""
        try:
            pid = os.posix_spawn(
                program,
                ["rm", "-rf", "--", target],
                {},
                file_actions=[(os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)],
            )
        except OSError:
            remove_stubborn(target)
        else:
            self.helpers[pid] = target

    def child_ended(self, pid: int, status: int) -> bool:
        """Hear of the end of a child; False if it is no helper."""
        target = self.helpers.pop(pid, None)
        if target is None:
            return False
        if status != 0 or os.path.lexists(target):
            remove_stubborn(target)
        return True


def _changed(path: str) -> int:
    """When the directory was changed last, in nanoseconds; 0 if it is not as it was made."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    own = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.getuid()
    return found.st_ctime_ns if own and found.st_size <= spares.FRESH else 0


def remove_stubborn(path: str) -> None:
    """Remove a tree whose directories may deny it."""

    def allow(_function: Callable[..., object], name: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), stat.S_IRWXU)
            if not os.path.islink(name):  # what a link leads to is not ours
                os.chmod(name, stat.S_IRWXU)
            if os.path.isdir(name) and not os.path.islink(name):
                shutil.rmtree(name, ignore_errors=True)
            else:
                os.unlink(name)

    shutil.rmtree(path, onerror=allow)
