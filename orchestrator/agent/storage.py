"""The journal's file: the few operations that the journal needs, as a port, and the operating system's."""

from __future__ import annotations

import os
from typing import Protocol


class Storage(Protocol):
    """One file, open for as long as this object is. All operations may raise `OSError`."""

    def load(self) -> bytes:
        """All that is in it."""

    def append(self, data: bytes) -> int:
        """Write at its end; how many bytes of `data` were taken: at least one."""

    def truncate(self, length: int) -> None:
        """Cut it to a length."""

    def sync(self) -> None:
        """Make what was written durable. After a failure nobody knows what is: only `replace` helps."""

    def replace(self, data: bytes) -> None:
        """Have it hold `data` and nothing else, durably; or what it held before, if that cannot be done."""

    def close(self) -> None:
        """Let go of it."""


class StoredFile:
    """A file (mode 0600) below the directory `root`. It is made if there is none, and the way to it durable then."""

    def __init__(self, path: str, root: str) -> None:
        self._path = path
        is_new = not os.path.exists(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if is_new:
            _sync_way(os.path.dirname(path), root)

    def load(self) -> bytes:
        """All that is in it."""
        with open(self._path, "rb") as file:
            return file.read()

    def append(self, data: bytes) -> int:
        """One call: it may take a part."""
        return os.write(self._file, data)

    def truncate(self, length: int) -> None:
        """Cut it, and go on there."""
        os.ftruncate(self._file, length)
        os.lseek(self._file, length, os.SEEK_SET)

    def sync(self) -> None:
        """The length too, as far as it is needed (fdatasync(2))."""
        os.fdatasync(self._file)

    def replace(self, data: bytes) -> None:
        """By a new file under the same name: a rename is atomic, and durable once the directory is synced."""
        path = f"{self._path}.new"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, data)
            os.fsync(file)
            os.rename(path, self._path)
        except BaseException:  # nobody else will close it, whatever went wrong
            os.close(file)
            raise
        os.close(self._file)
        self._file = file
        _sync_directory(os.path.dirname(self._path))

    def close(self) -> None:
        """Close it."""
        os.close(self._file)


def _sync_way(directory: str, root: str) -> None:
    """What was made between `root` and here may be as new as the file."""
    _sync_directory(directory)
    if directory not in {root, os.path.dirname(directory)}:
        _sync_way(os.path.dirname(directory), root)


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_all(file: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.write(file, data[done:])
