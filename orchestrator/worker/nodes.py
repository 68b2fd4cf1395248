"""The directories of a worker on its node.

    <work dir>/<host>/<hash of store>.batch/RUN/TICKET/   the runtime directory, locked (flock(2)) while in use
    <work dir>/<host>/<hash of store>/kept/               scratch directories that are kept, as an agent keeps them
    runs/RUN/batch/deferred/HOST/TICKET/                  in the store: what the attempt has deferred to its end

Who leaves removes its own, and those of workers of its run that were killed, so that the last one of a run on a node
leaves nothing. What a killed one's attempt has deferred is moved to those of the next worker, which does it. That one
is dead is known from its claim's file, which a worker locks as well. Where a file system has no locks, nothing is
taken from anybody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import NamedTuple

from orch.agent.paths import runtime_directory
from orch.agent.scratch import remove_stubborn
from orch.store.layout import safe_name
from orch.store.private import make_private
from orch.work import spares
from orch.worker.locks import try_lock
from orch.worker.spool import Spool, Ticket

KIND = ".batch"


class Directories(NamedTuple):
    """Where a worker's things are. `kept`, `deferred`: they may not be there."""

    runtime: str
    kept: str
    deferred: str


class Node:
    """The directories of one ticket, on this host, as long as this object is open."""

    def __init__(self, spool: Spool, ticket: Ticket, host: str, work_dir: str) -> None:
        """Make them. Raises `OSError`, `AdapterError`."""
        self._spool = spool
        self._ticket = ticket
        self._all_deferred = os.path.join(spool.root, "deferred", safe_name(host))
        self._top = runtime_directory(spool.store, work_dir, {}, KIND)
        self._given = work_dir != ""
        self._runs = os.path.join(self._top, safe_name(spool.run))
        runtime = os.path.join(self._runs, str(ticket))
        self._lock = make_and_lock(runtime)
        self.directories = Directories(
            runtime=runtime,
            kept=os.path.join(self._top.removesuffix(KIND), spares.KEPT),
            deferred=os.path.join(self._all_deferred, str(ticket)),
        )

    def inherit(self) -> None:
        """Take over what killed workers of this run were to do here after their attempts."""
        for name in _names(self._all_deferred):
            if name != str(self._ticket) and not self._spool.is_held(name):
                self._take(os.path.join(self._all_deferred, name))

    def _take(self, directory: str) -> None:
        for name in _names(directory):
            make_private(self.directories.deferred)
            with contextlib.suppress(FileNotFoundError):  # a rename has one winner
                os.rename(os.path.join(directory, name), os.path.join(self.directories.deferred, name))
        _drop(directory)

    def leave(self) -> None:
        """Remove what is here, and what killed workers of this run have left here, as far as that can be."""
        with contextlib.suppress(OSError):  # the next one will try, too
            self._clear_up()

    def _clear_up(self) -> None:
        _drop(self.directories.deferred, self._all_deferred, os.path.dirname(self._all_deferred))
        remove_stubborn(self.directories.runtime)
        os.close(self._lock)
        for name in _names(self._runs):
            _sweep(os.path.join(self._runs, name))
        host = os.path.dirname(self._top)
        _drop(self._runs, self._top, host, *(() if self._given else (os.path.dirname(host),)))


def make_and_lock(path: str) -> int:
    """Make a directory, and lock it. Who sweeps may have thought it a dead one's a moment before."""
    while True:
        make_private(path)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, path):
                return lock
            os.close(lock)


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sweep(path: str) -> None:
    """Remove a directory that nobody uses."""
    lock = try_lock(path, os.O_RDONLY | os.O_DIRECTORY)
    if lock >= 0:
        with contextlib.suppress(OSError):  # somebody else was faster
            remove_stubborn(path)
        os.close(lock)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _drop(*directories: str) -> None:
    """Remove these, one after the other, as long as they are empty."""
    with contextlib.suppress(OSError):
        for each in directories:
            os.rmdir(each)
