"""What stays of a run that is deleted, so that its calls can still be found: `calls.json`, and the files that it names.

Killed at any moment, nothing wrong is left. `calls.json` is durable before anything goes. While the log is there, it is
a run, and `calls.json` counts for nothing. The log goes all at once; from then on it is what is left of a run, and what
else is there is surplus, which the next one deletes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from orch.calls.record import Entry, place_of
from orch.calls.source import (
    deleted_runs,
    entries,
    is_remains,
    read_remains,
    stamp,
    stamps,
    taken,
    write_remains,
)
from orch.errors import StoreError
from orch.store.file import FileStore
from orch.store.layout import calls_file, log_dir, run_dir


class Freed:
    """What was deleted. Size in bytes. `calls`: those that are kept, or were dropped. `notes`: what was left alone."""

    def __init__(self, calls: int = 0) -> None:
        self.calls = calls
        self.count = 0
        self.size = 0
        self.notes: list[str] = []


def strip(store: FileStore, run: str) -> Freed | None:
    """Delete a run, but for what its calls need; None, and nothing is done, if it has made none. Its lock is held.

    Of what is left of a run, the surplus is deleted. Raises `LogDamaged`, `LogTrouble`, `StoreError`, `OSError`.
    """
    if not is_remains(store, run):
        calls = list(entries(store, run))
        mark = stamp(store, run)
        if not calls or mark is None:
            return None
        write_remains(store, run, mark.identity, calls)
        store.delete_tree(log_dir(run))
    return prune(store, run)


def prune(store: FileStore, run: str) -> Freed:
    """Delete the surplus in what is left of a run. Raises `StoreError`."""
    calls = read_remains(store, run).calls
    freed = Freed(len(calls))
    _keep_only(store, run, {calls_file(run), *_uses(calls)}, freed)
    return freed


def drop(store: FileStore, oldest: str) -> Freed:
    """Forget calls of deleted runs that were made before `oldest` (a log's time), with their files.

    What a run that is there has taken stays: its results need it. So does what other calls that stay need. Raises
    `LogDamaged`, `LogTrouble`, `StoreError`, `OSError`.
    """
    freed = Freed()
    runs = _readable(store, freed.notes)
    calls = [entry for made in runs.values() for entry in made]
    used = set().union(*(taken(store, run) for run in stamps(store) if run not in runs))
    kept = _closure(calls, {(entry.run, entry.job) for entry in calls if entry.time >= oldest} | used)
    for run in runs:
        _reduce(store, run, [entry for entry in runs[run] if (run, entry.job) in kept], freed)
    freed.calls = len(calls) - len(kept)
    held = sum(entry.time < oldest for entry in calls) - freed.calls
    if held:
        freed.notes.append(f"kept, since runs that are there have taken their values: {held} of the calls")
    return freed


def _readable(store: FileStore, notes: list[str]) -> dict[str, list[Entry]]:
    """The calls of each deleted run."""
    found = {}
    for run in deleted_runs(store):
        try:
            found[run] = read_remains(store, run).calls
        except StoreError as error:
            notes.append(f"what is left of the deleted run {run} is left alone: {error}")
    return found


def _closure(calls: list[Entry], wanted: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Calls that are wanted, and those that have files which these name, and so on."""
    owners: dict[str, list[Entry]] = {}
    for entry in calls:
        for path in entry.uses():
            owners.setdefault(path, []).append(entry)
    kept: set[tuple[str, int]] = set()
    waiting = [entry for entry in calls if (entry.run, entry.job) in wanted]
    while waiting:
        entry = waiting.pop()
        if (entry.run, entry.job) not in kept:
            kept.add((entry.run, entry.job))
            foreign = (path for path in entry.uses() if not path.startswith(f"{run_dir(entry.run)}/"))
            waiting += [owner for path in foreign for owner in owners.get(path, ())]
    return kept


def _reduce(store: FileStore, run: str, calls: list[Entry], freed: Freed) -> None:
    """Leave only these of a deleted run's calls. What is not named any more goes last."""
    before = read_remains(store, run)
    if not calls:
        _measure(store, list(store.list(run_dir(run))), freed)
        store.delete_tree(run_dir(run))
    elif len(calls) < len(before.calls):
        write_remains(store, run, before.identity, calls)
        _keep_only(store, run, {calls_file(run), *_uses(calls)}, freed)


def _uses(calls: Iterable[Entry]) -> set[str]:
    return {path for entry in calls for path in entry.uses()}


def _keep_only(store: FileStore, run: str, kept: set[str], freed: Freed) -> None:
    """Delete what is none of these paths and in none of them, and directories that are empty then."""
    found = [*store.list(run_dir(run)), *store.leftovers(run_dir(run))]
    surplus = [path for path in found if path not in kept and place_of(path) not in kept]
    _measure(store, surplus, freed)
    for path in surplus:
        store.delete(path)
    for directory, _, _ in os.walk(store.local_path(run_dir(run)), topdown=False):
        if place_of(f"{_relative(store, directory)}/") not in kept:
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(directory)


def _relative(store: FileStore, directory: str) -> str:
    return Path(directory).relative_to(store.root).as_posix()


def _measure(store: FileStore, paths: list[str], freed: Freed) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            freed.size += store.local_path(path).lstat().st_size
            freed.count += 1
