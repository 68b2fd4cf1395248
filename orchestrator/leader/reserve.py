"""The place of a new run in the store. Whoever makes it holds the run's lock, until the first events are there and on.

So what a leader has left that was killed before that, which is a directory without a log, is known from one in the
making, and is taken over by whoever begins a run of that name; `orch clean --garbage` frees the others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.reader import read
from orch.errors import LogDamaged, LogTrouble, RunBusy, RunExists
from orch.hints import store_option
from orch.store import layout
from orch.store.file import FileStore

_PROBES = 5
"""How often a directory may vanish before its lock is taken, since others have begun a run of that name, and failed."""

_BEFORE = ("lock", "planning", "values", "files", "logs")
"""What is made of a run before its log, beside temporary files."""


@contextlib.contextmanager
def reserved(store: FileStore, run: str) -> Iterator[RunLock]:
    """The run's directory, with its lock, held; removed if the block fails. Raises `RunExists`, `LogTrouble`."""
    lock = _claimed(store, run)
    try:
        yield lock
    except BaseException:  # Ctrl-C, too: nothing of the run is left behind
        with contextlib.suppress(RunBusy, LogTrouble):  # then it is another's by now
            lock.acquire()
            shutil.rmtree(store.local_path(layout.run_dir(run)), ignore_errors=True)
        lock.release()
        raise


def is_unborn(store: FileStore, run: str) -> bool:
    """Is there a directory of that name in which nothing is but what is made before a log?"""
    directory = store.local_path(layout.run_dir(run))
    if directory.is_symlink() or not directory.is_dir():
        return False
    return all(name in _BEFORE or name.startswith(".") for name in os.listdir(directory))


def _claimed(store: FileStore, run: str) -> RunLock:
    directory = store.local_path(layout.run_dir(run))
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = RunLock(store.local_path(layout.lock_file(run)))
    for left in reversed(range(_PROBES)):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        _must_be_unborn(store, run)
        try:
            lock.acquire()
        except RunBusy:
            holder = lock.holder()
            who = f" by process {holder.pid} on {holder.host}" if holder else ""
            raise RunExists(f"a run {run} is being begun{who} just now; choose another id") from None
        except LogTrouble as error:
            if left and isinstance(error.__cause__, FileNotFoundError):
                continue
            raise
        break
    try:
        _must_be_unborn(store, run)  # still
        _clear(store, run)
    except BaseException:  # cancelled, too: whoever comes next finds the lock free
        lock.release()
        raise
    return lock


def _clear(store: FileStore, run: str) -> None:
    """Remove what somebody has left who is dead."""
    for path in store.local_path(layout.run_dir(run)).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != store.local_path(layout.lock_file(run)):
            path.unlink()


def _must_be_unborn(store: FileStore, run: str) -> None:
    if is_unborn(store, run) or not os.path.lexists(store.local_path(layout.run_dir(run))):
        return
    where = store_option(store)
    log = store.local_path(layout.log_dir(run))
    if store.exists(layout.calls_file(run)) and not log.exists():
        raise RunExists(
            f"the store {store.root} has had a run {run}, and keeps what its calls need, for the call cache; "
            f"choose another id, or drop that with: orch clean --cache{where}"
        )
    if log.is_dir() and not _is_planned(store, run):
        raise RunExists(
            f"the store {store.root} has a run {run} already, which was interrupted before its first jobs were "
            f"recorded, or is just beginning; if nobody leads it, delete it with: orch clean {run}{where}"
        )
    raise RunExists(
        f"the store {store.root} has a run {run} already; carry it on with: orch replay {run} --restart{where}, or "
        f"delete it first with: orch clean {run}{where}"
    )


def _is_planned(store: FileStore, run: str) -> bool:
    """Can the run be carried on? What cannot be read may be more than that."""
    try:
        return any(isinstance(event, ev.Planned) for event in read(store.local_path(layout.log_dir(run))))
    except (LogDamaged, LogTrouble):
        return True
