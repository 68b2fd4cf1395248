"""Where calls are written down for good: in the log of each run, and, of a run that was deleted, in `calls.json`.

Most runs have none to tell, and most logs have not changed since they were last read; both are seen without decoding a
line.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from orch.bus import events as ev
from orch.bus.files import REAL
from orch.bus.reader import read
from orch.bus.segment import epochs, segment_name
from orch.calls.ledger import Ledger
from orch.calls.present import missing
from orch.calls.record import FORMAT, Entry, Remains, in_order, other_mentions
from orch.errors import LogDamaged, OrchError, StoreError
from orch.history import EventReader
from orch.store.blobs import blob_bytes
from orch.store.file import TEMPORARY, FileStore
from orch.store.layout import calls_file, log_dir

SURVEYED = b'"type":"surveyed"'
REUSED = b'"type":"reused"'

_CHUNK = 1 << 20


class Stamp(msgspec.Struct, frozen=True):
    """How far a run has come, as seen from outside. `identity`: of this run, and no later one of that name.

    `deleted`: only remains are there, of which calls can be dropped; a log never has fewer.
    """

    identity: str
    state: str
    deleted: bool = False


def stamps(store: FileStore) -> dict[str, Stamp]:
    """Of all runs of the store that have a log, or remains. Raises `StoreError`."""
    try:
        names = [name for name in os.listdir(store.local_path("runs")) if not name.startswith(TEMPORARY)]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"could not list the runs of {store.root}: {error.strerror}") from error
    return {name: found for name in sorted(names) if (found := stamp(store, name)) is not None}


def stamp(store: FileStore, run: str) -> Stamp | None:
    """Of one run; None if there is nothing to be read."""
    try:
        directory = store.local_path(log_dir(run))
        segments = [directory / segment_name(epoch) for epoch in epochs(directory, REAL)]
        if segments:
            sizes = [f"{path.name}:{path.stat().st_size}" for path in segments]
            return Stamp(_identity(segments[0]), " ".join(sizes))
        left = store.local_path(calls_file(run)).stat()
        remains = read_remains(store, run)
    except (OrchError, OSError, ValueError):  # of a name that is none of ours, too
        return None
    return Stamp(remains.identity, f"{left.st_ino}:{left.st_size}:{left.st_mtime_ns}", deleted=True)


def _identity(segment: Path) -> str:
    """The first line says who began the run, and when."""
    with segment.open("rb") as file:
        return f"{zlib.crc32(file.readline(4096)):08x}"


def entries(store: FileStore, run: str) -> Iterator[Entry]:
    """Calls that the run has made, and whose values are there, in the order of its jobs.

    Raises `LogDamaged`, `LogTrouble`, `StoreError`, `OSError`.
    """
    directory = store.local_path(log_dir(run))
    if not epochs(directory, REAL):
        if is_remains(store, run):
            yield from read_remains(store, run).calls
        return
    if not tells(directory, SURVEYED):
        return
    try:
        for found in _in_log(directory, run):
            entry = complete(store, found)
            if entry is not None:
                yield entry
    except LookupError as error:  # a job that was never added
        raise LogDamaged(f"the log {directory} is not one that orch has written: {error!r}") from error


def _in_log(directory: Path, run: str) -> Iterator[Entry]:
    ledger = Ledger()
    for event in read(directory):
        ledger.note(event)
    if ledger.run == run:  # else it is a copy: what its log names is the original's
        fetch = EventReader(directory, ahead=2048)  # jobs that are done early have low numbers, mostly
        yield from (ledger.entry(job, fetch) for job in ledger.made())


def complete(store: FileStore, entry: Entry) -> Entry | None:
    """The entry, in order, with its `mentions`; None if something of it is not there any more. Raises `StoreError`."""
    if missing(store, entry):
        return None
    pickles = [blob_bytes(store, kept.value) for kept in entry.values]
    found = msgspec.structs.replace(
        entry,
        values=in_order(entry.values),
        files=sorted(entry.files, key=lambda file: file.path),
        mentions=other_mentions(pickles, entry.files),
    )
    return None if missing(store, found) else found


def tells(directory: Path, mark: bytes) -> bool:
    """Do these characters stand in the log? Raises `OSError`."""
    return any(_stands_in(directory / segment_name(epoch), mark) for epoch in epochs(directory, REAL))


def _stands_in(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        end = b""
        while chunk := file.read(_CHUNK):
            if mark in end + chunk:
                return True
            end = chunk[-len(mark) :]
    return False


def taken(store: FileStore, run: str) -> set[tuple[str, ev.JobId]]:
    """Runs and jobs whose values this run has taken. Raises `LogDamaged`, `LogTrouble`, `OSError`."""
    directory = store.local_path(log_dir(run))
    if not tells(directory, REUSED):
        return set()
    return {(event.run, event.source) for event in read(directory) if isinstance(event, ev.Reused)}


# Of deleted runs --------------------------------------------------------------------------------------------------


def read_remains(store: FileStore, run: str) -> Remains:
    """What is left of a deleted run. Raises `StoreError`, `NoSuchFile`."""
    path = calls_file(run)
    data = store.read_bytes(path)
    try:
        found = msgspec.json.decode(data, type=Remains)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{store.local_path(path)} cannot be read: {error}") from error
    if found.format != FORMAT:
        raise StoreError(f"{store.local_path(path)} is of format {found.format}, and this orch reads {FORMAT} only")
    return found


def write_remains(store: FileStore, run: str, identity: str, calls: list[Entry]) -> None:
    """Durable when this returns. Raises `StoreError`."""
    store.write_bytes(calls_file(run), msgspec.json.encode(Remains(FORMAT, run, identity, calls)) + b"\n")


def is_remains(store: FileStore, run: str) -> bool:
    """Has the run been deleted, but for what its calls need?"""
    return store.exists(calls_file(run)) and not epochs(store.local_path(log_dir(run)), REAL)


def deleted_runs(store: FileStore) -> list[str]:
    """Runs of which only remains are there."""
    try:
        names = os.listdir(store.local_path("runs"))
    except FileNotFoundError:
        return []
    return [name for name in sorted(names) if not name.startswith(".") and is_remains(store, name)]
