"""A directory as a list of entries, and one digest for all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from orch.errors import StoreError

STAGED = ".orch-files"
"""In a scratch directory: what an attempt was lent by the store. A stored copy of that directory is without."""


class Entry(msgspec.Struct, frozen=True):
    """A file or directory in a tree: its name within it, where it is read from, and what it holds once measured."""

    name: str
    source: Path
    directory: bool = False
    executable: bool = False
    size: int = 0
    digest: str = ""


def walk(root: Path) -> Iterator[Entry]:
    """What is in `root`, parents first, by name. Links inside are followed; `StoreError` for what cannot be stored.

    Raises `OSError` where a directory cannot be read.
    """
    top = os.path.realpath(root)
    waiting: list[tuple[str, str, frozenset[str]]] = [("", top, frozenset({top}))]
    while waiting:
        prefix, directory, above = waiting.pop()
        with os.scandir(directory) as scan:
            found = sorted((item for item in scan if item.name != STAGED), key=lambda item: item.name)
        below = []
        for item in found:
            name = f"{prefix}{item.name}"
            entry = _entry(name, item, top)
            yield entry
            if entry.directory:
                real = str(entry.source)
                if real in above:
                    raise StoreError(f"{item.path} is a link to a directory that it is in itself")
                below.append((f"{name}/", real, above | {real}))
        waiting.extend(reversed(below))


def digest_of(entries: Iterable[Entry]) -> str:
    """One digest over names, contents and executable bits of measured entries, whatever their order."""
    total = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.name):
        kind = "d" if entry.directory else "x" if entry.executable else "f"
        name = os.fsencode(entry.name)
        total.update(f"{kind} {len(name)} ".encode() + name + f" {entry.digest}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _entry(name: str, item: os.DirEntry[str], top: str) -> Entry:
    source = item.path
    if item.is_symlink():
        source = os.path.realpath(item.path)
        if source != top and not source.startswith(f"{top.rstrip('/')}/"):
            raise StoreError(f"{item.path} is a link to {source}, outside of {top}: copy the file instead")
        if not os.path.exists(source):
            raise StoreError(f"{item.path} is a link to {os.readlink(item.path)}, which does not exist")
    if item.is_dir():
        return Entry(name, Path(source), directory=True)
    if not item.is_file():
        raise StoreError(f"{item.path} is neither a file nor a directory")
    return Entry(name, Path(source), executable=bool(item.stat().st_mode & 0o100))
