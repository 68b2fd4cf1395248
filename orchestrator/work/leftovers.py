"""What the import of a workflow has left behind in this process, and what it has read.

A process that has imported a workflow may plan it many times, each time in a fork, if a fork is as good as a new
process: one that imports it again. It is not where the import has started what a fork lacks or shares, or has rolled
dice; and it is not any more where what the import has read is another by now.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from types import ModuleType
from typing import Any

_FRESH = (0x80000000, 623)
"""How the state of numpy's Mersenne Twister begins, and where it stands, when it has its seed from the system."""

_MOVING = ("/proc/", "/sys/", "/dev/")

_Stamp = tuple[int, int, int] | None


class Watch:
    """Begun before the import. `own`: a directory whose files never change."""

    def __init__(self, own: str) -> None:
        self._still = (f"{own}/", *_MOVING)
        self._dice = random.getstate()
        self._open = _descriptors()
        self._read: dict[str, _Stamp] = {}
        self._on = True
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or event not in ("open", "os.scandir", "os.listdir"):
            return
        path, flags = arguments[0], arguments[-1]
        if not isinstance(path, str | bytes) or (event == "os.listdir" and path in sys.path_importer_cache):
            return
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
            return
        path = _source(os.path.abspath(os.fsdecode(path)))
        if not path.startswith(self._still):
            self._read.setdefault(path, _stamp(path))

    def end(self, workflow: ModuleType | None) -> bool:
        """The import is over: is a fork as good as a new process? `workflow`: its module, if it has one."""
        self._on = False
        threads = sys.modules.get("threading")
        return not (
            (threads is not None and threads.active_count() > 1)
            or _has_children()
            or _descriptors() != self._open
            or random.getstate() != self._dice
            or _has_seeded_numpy()
            or _has_dice(workflow)
        )

    def is_stale(self) -> bool:
        """Is something that the import has read not what it was then?"""
        return any(_stamp(path) != stamp for path, stamp in self._read.items())


def freshen() -> None:
    """In a fork: what a new process would have rolled for itself. For the module `random`, Python does that."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def _source(path: str) -> str:
    """What is compiled stands for its source, which need not be read then."""
    if not path.endswith(".pyc"):
        return path
    try:
        return importlib.util.source_from_cache(path)
    except ValueError:
        return path


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")  # with the one that it is read by: the same number each time


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _has_seeded_numpy() -> bool:
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return False
    try:
        _, key, place, *_ = numpy.get_state()
        return (int(key[0]), int(place)) != _FRESH
    except (TypeError, ValueError):  # another generator has been put there
        return True


def _has_dice(workflow: ModuleType | None) -> bool:
    """Has the module a generator of its own?"""
    kinds: tuple[type, ...] = (random.Random,)
    if numpy := sys.modules.get("numpy.random"):
        kinds += (numpy.Generator, numpy.RandomState)
    found = vars(workflow).values() if workflow is not None else ()
    return any(isinstance(value, kinds) and not isinstance(value, random.SystemRandom) for value in found)
