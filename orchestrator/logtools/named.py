"""The files of the store that a log names: are they there, and as they were when they were named?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from orch.bus import events as ev
from orch.errors import StoreError
from orch.store.layout import run_dir
from orch.store.tree import Entry, digest_of, walk


class Named(msgspec.Struct, frozen=True):
    """A file or directory, as an event names it. `synced`: it was durable then (captured output never is)."""

    path: str
    size: int
    digest: str
    directory: bool = False
    synced: bool = True


class Gone(msgspec.Struct, frozen=True):
    """A file that is not as event `seq` says."""

    seq: int
    path: Path
    why: str


def named_files(event: ev.Event) -> Iterator[Named]:
    """What the event names."""
    for field in ("body", "wanted", "value", "stdout", "stderr"):
        blob = getattr(event, field, None)
        if isinstance(blob, ev.Blob) and blob.file:
            yield Named(blob.file, blob.size, blob.digest, synced=field not in ("stdout", "stderr"))
    if isinstance(event, ev.Reused):
        blobs = (kept.value for kept in event.values)
        yield from (Named(blob.file, blob.size, blob.digest) for blob in blobs if blob.file)
    if not isinstance(event, ev.Removed):
        for file in getattr(event, "files", ()):
            yield Named(file.path, file.size, file.digest, file.directory)


class FileCheck:
    """Checks the files of one run. `count`: how many; `gone`: those that are not as they should be.

    `unsynced` are captured outputs that are not: no result depends on them, and a power cut may take them. Files of
    other runs, in values that were taken from there, are looked for beside this one.
    """

    def __init__(self, directory: Path, run: str) -> None:
        self.count = 0
        self.gone: list[Gone] = []
        self.unsynced: list[Gone] = []
        self._directory = directory
        self._prefix = f"{run_dir(run)}/"

    def __call__(self, event: ev.Event) -> None:
        """Check the files that the event names."""
        if isinstance(event, ev.Removed):  # on purpose
            removed = {self._place(path) for path in event.files}
            self.gone = [one for one in self.gone if one.path not in removed]
        for file in named_files(event):
            self.count += 1
            path = self._place(file.path)
            why = _problem(path, file)
            if why:
                (self.gone if file.synced else self.unsynced).append(Gone(event.seq, path, why))

    def _place(self, path: str) -> Path:
        if path.startswith(self._prefix):
            return self._directory / path.removeprefix(self._prefix)
        return self._directory.parent.parent / path


def _problem(path: Path, file: Named) -> str:
    """Why it is not as it should be; empty if it is."""
    try:
        size, digest = _measured_tree(path) if file.directory else _measured(path)
    except (OSError, StoreError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if size != file.size:
        return f"has {size} bytes instead of {file.size}"
    if file.digest and digest != file.digest:
        return "has changed: its digest differs"
    return ""


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), f"sha256:{digest}"


def _measured_tree(path: Path) -> tuple[int, str]:
    entries: list[Entry] = []
    for entry in walk(path):
        size, digest = (0, "") if entry.directory else _measured(entry.source)
        entries.append(msgspec.structs.replace(entry, size=size, digest=digest))
    return sum(entry.size for entry in entries), digest_of(entries)
