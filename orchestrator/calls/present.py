"""Is everything there that the value of an earlier call is made of?"""

from __future__ import annotations

import os
import stat

from orch.calls.record import Entry
from orch.errors import StoreError
from orch.store.file import TEMPORARY, FileStore


def missing(store: FileStore, entry: Entry) -> str:
    """What is not there, or not as long as it was; empty if all is. Raises `StoreError` where that cannot be told."""
    for kept in entry.values:
        if kept.value.file and not _is_file(store, kept.value.file, kept.value.size):
            return kept.value.file
    for file in entry.files:
        if not (_is_directory(store, file.path) if file.directory else _is_file(store, file.path, file.size)):
            return file.path
    return next((path for path in entry.mentions if not _holds_something(store, path)), "")


def _is_file(store: FileStore, path: str, size: int) -> bool:
    found = _status(store, path)
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_size == size


def _is_directory(store: FileStore, path: str) -> bool:
    found = _status(store, path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _holds_something(store: FileStore, path: str) -> bool:
    """Is the directory of a stored file there, with the file or directory that it is for?"""
    try:
        return any(not name.startswith(TEMPORARY) for name in os.listdir(store.local_path(path)))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(f"could not look at {path} in the store {store.root}: {error.strerror}") from error


def _status(store: FileStore, path: str) -> os.stat_result | None:
    try:
        return store.local_path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"could not look at {path} in the store {store.root}: {error.strerror}") from error
