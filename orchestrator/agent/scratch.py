"""Scratch directories of attempts: where they are, and how they are removed, whatever is in them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable

from orch.work import spares


class Scratch:
    """Below a runtime directory. What is left in a scratch directory is removed by a helper process, in no hurry."""

    def __init__(self, runtime: str) -> None:
        self.root = os.path.join(runtime, "scratch")
        self._kept = os.path.join(runtime, spares.KEPT)
        self._trash = os.path.join(runtime, spares.TRASH)
        self._numbers = itertools.count(1)
        self.helpers: dict[int, str] = {}
        self._spare = os.path.join(runtime, spares.SPARE)
        for path in (self.root, self._trash, self._spare):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def path(self, name: str) -> str:
        """Where the scratch directory of that name is; it is not made here."""
        return os.path.join(self.root, name)

    def remove(self, path: str) -> None:
        """Remove a scratch directory. Not there: fine."""
        if not spares.drop(path):
            self._throw_away(path)

    def keep(self, path: str) -> str:
        """Put a scratch directory aside; where it is now, for people. Empty if nothing is in it."""
        try:
            return spares.keep(path, self._kept)
        except OSError as error:  # a full disk, say: it stays until another agent clears up
            return f"{path} (it cannot be put aside: {error.strerror or error})"

    def remove_all(self) -> None:
        """Remove what an earlier agent has left."""
        for directory in (self.root, self._trash, self._spare):
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
            _remove_stubborn(target)
        else:
            self.helpers[pid] = target

    def child_ended(self, pid: int, status: int) -> bool:
        """Hear of the end of a child; False if it is no helper."""
        target = self.helpers.pop(pid, None)
        if target is None:
            return False
        if status != 0 or os.path.lexists(target):
            _remove_stubborn(target)
        return True


def _remove_stubborn(path: str) -> None:
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
