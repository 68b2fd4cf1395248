"""From a locator, as given to `--store`, to a store.

./work, /data/work, file:/data/work      a directory
SCHEME:…                                 what the entry-point group `orch.stores` has under that name: a function
                                         that takes the locator and returns an object with FileStore's methods
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from orch.errors import UnknownStore
from orch.store.file import FileStore

GROUP = "orch.stores"
"""Entry points by which other packages bring stores."""

EXTRAS = {"s3": "s3"}
"""Schemes of our own, and the extra that brings each."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def open_store(locator: str | Path) -> FileStore:
    """The store; not created, not checked. Raises `UnknownStore` for a scheme that nothing installed knows."""
    text = os.fspath(locator)
    match = _SCHEME.match(text) if isinstance(locator, str) else None
    if match is None:
        return _directory(text, text)
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme == "file":
        return _directory(rest.removeprefix("//") if rest.startswith("///") else rest, text)
    return _installed(scheme, text)


def _directory(path: str, locator: str) -> FileStore:
    if not path or "\0" in path:
        raise UnknownStore(f"{locator!r} names no directory: give a path, or file:PATH")
    if path.startswith("//"):
        raise UnknownStore(f"{locator!r} names a host: a file store is a path on this host, file:/PATH")
    return FileStore(Path(path).expanduser())


def _installed(scheme: str, locator: str) -> FileStore:
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    for entry in entry_points(group=GROUP, name=scheme):
        store: FileStore = entry.load()(locator)
        return store
    if scheme in EXTRAS:
        raise UnknownStore(f"no store for {scheme}: is installed ({locator}): pip install 'orch[{EXTRAS[scheme]}]'")
    raise UnknownStore(
        f"no store for {scheme}: is installed ({locator}); known are file: and {', '.join(f'{x}:' for x in EXTRAS)} "
        f"(for a directory of that name, write ./{locator})"
    )
