"""What no event names: files of attempts that did not commit, code that no run uses, leftovers of writers that died.

What is young is kept, since a run that is just beginning has written files which its log does not name yet. So is what
belongs to a run that is led, or has live attempts: those will be named.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.reader import read
from orch.calls.remains import prune
from orch.calls.source import deleted_runs
from orch.cli.summary import leader_alive
from orch.errors import LogTrouble, OrchError, RunBusy, StoreError
from orch.leader.reserve import is_unborn
from orch.state.fold import apply
from orch.state.graph import IllegalTransition
from orch.state.model import State
from orch.store.file import TEMPORARY, FileStore
from orch.store.layout import lock_file, log_dir, run_dir
from orch.store.runs import list_runs

YOUNG = 3600.0
"""Seconds for which nothing is garbage."""

_PARTS = ("values", "files", "logs")


@dataclasses.dataclass
class Report:
    """What was deleted. Size in bytes. `notes`: what was left alone, and why."""

    count: int = 0
    size: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)


def collect(store: FileStore, only: str | None = None, now: float | None = None) -> Report:
    """Delete the garbage of the store, or of one run. `now`: seconds since 1970."""
    report = Report()
    oldest = (time.time() if now is None else now) - YOUNG
    bundles: set[str] | None = set()
    for run in list_runs(store):
        try:
            named = _Named(store, run)
        except (OrchError, IllegalTransition) as error:
            report.notes.append(f"run {run} is left alone, and so is all code: its log cannot be read: {error}")
            bundles = None
            continue
        if bundles is not None:
            bundles |= named.bundles
        if only in (None, run):
            _of_run(store, run, named, report, oldest)
    if only is None:
        if bundles is not None:
            _bundles(store, bundles, report, oldest)
        _unborn(store, report, oldest)
        _leftovers(store, report, oldest)
        _remains(store, report)
    return report


class _Named:
    """What the log of a run names. `live`: more will be named."""

    def __init__(self, store: FileStore, run: str) -> None:
        self.files: set[str] = set()
        self.bundles: set[str] = set()
        directory = store.local_path(log_dir(run))
        led = leader_alive(directory) is True
        state = State()
        for event in read(directory):
            apply(state, event)
            self.files.update(files_of(event))
            self.bundles.update(filter(None, (getattr(event, "bundle", ""), getattr(event, "previous", ""))))
        self.live = led or bool(state.live) or state.planned is None
        self.copy_of = state.created.run if state.created is not None and state.created.run != run else ""

    def __contains__(self, path: str) -> bool:
        """Is the file named, or in a directory that is?"""
        return path in self.files or any(str(parent) in self.files for parent in Path(path).parents)


def files_of(event: ev.Event) -> Iterator[str]:
    """Paths in the store that an event names."""
    for name in ("body", "wanted", "value", "stdout", "stderr"):
        blob = getattr(event, name, None)
        if isinstance(blob, ev.Blob) and blob.file:
            yield blob.file
    if not isinstance(event, ev.Removed):
        for file in getattr(event, "files", ()):
            yield file.path


def _of_run(store: FileStore, run: str, named: _Named, report: Report, oldest: float) -> None:
    if named.copy_of:
        report.notes.append(f"run {run} is left alone: it is a copy of run {named.copy_of}, whose files its log names")
        return
    if named.live:
        report.notes.append(f"run {run} is left alone: it is led, or attempts of it may still run")
        return
    for part in _PARTS:
        for path in list(store.list(f"{run_dir(run)}/{part}")):
            if path not in named:
                _delete(store, path, report, oldest)


def _remains(store: FileStore, report: Report) -> None:
    """What a `clean` that was killed has left of runs of which only what their calls need was to stay."""
    for run in deleted_runs(store):
        try:
            freed = prune(store, run)
        except StoreError as error:
            report.notes.append(f"what is left of the deleted run {run} is left alone: {error}")
            continue
        report.count += freed.count
        report.size += freed.size


def _bundles(store: FileStore, used: set[str], report: Report, oldest: float) -> None:
    try:
        names = [entry.name for entry in os.scandir(store.local_path("bundles"))]
    except FileNotFoundError:
        return
    for name in names:
        if name not in used and TEMPORARY not in name:
            _delete_tree(store, f"bundles/{name}", report, oldest)


def _unborn(store: FileStore, report: Report, oldest: float) -> None:
    """Directories of runs whose leader was killed before their first events."""
    for path in sorted(store.local_path("runs").glob("*")):
        lock = RunLock(store.local_path(lock_file(path.name)))
        if path.name.startswith(TEMPORARY) or not is_unborn(store, path.name) or path.stat().st_mtime > oldest:
            continue
        try:
            lock.acquire()
        except (RunBusy, LogTrouble) as error:
            report.notes.append(f"run {path.name} is left alone: it is being begun, it seems: {error}")
            continue
        try:
            if is_unborn(store, path.name):  # still
                _delete_tree(store, run_dir(path.name), report, math.inf)
        finally:
            lock.release()


def _leftovers(store: FileStore, report: Report, oldest: float) -> None:
    """Temporary files, and what is left of runs that were being deleted."""
    for path in list(store.leftovers()):
        if store.local_path(path).is_dir():
            _delete_tree(store, path, report, oldest)
        else:
            _delete(store, path, report, oldest)


def _delete(store: FileStore, path: str, report: Report, oldest: float) -> None:
    try:
        status = store.local_path(path).stat()
    except FileNotFoundError:
        return
    if status.st_mtime > oldest:
        return
    store.delete(path)
    report.count += 1
    report.size += status.st_size


def _delete_tree(store: FileStore, path: str, report: Report, oldest: float) -> None:
    root = store.local_path(path)
    try:
        if root.stat().st_mtime > oldest:
            return
    except FileNotFoundError:
        return
    files = [Path(directory, name) for directory, _, names in os.walk(root) for name in names]
    size = sum(file.lstat().st_size for file in files)
    store.delete_tree(path)
    report.count += len(files)
    report.size += size
