"""The few calls by which the file store changes a disk. A test puts one that fails in its place."""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """The real thing. Each method raises `OSError` and never tries again: a failed sync in particular is final."""

    def create(self, path: Path, mode: int) -> int:
        """A new file, which must not exist, opened for writing; its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        os.fchmod(descriptor, mode)  # whatever the umask is
        return descriptor

    def protect(self, descriptor: int, mode: int) -> None:
        """Set the final permissions of a file that is written."""
        os.fchmod(descriptor, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of `data`; how much of it."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Make a file's contents and size durable."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close; on NFS this may report what an earlier write could not do."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its name, atomically, in the place of what had it."""
        source.rename(target)

    def make_directory(self, path: Path) -> None:
        """A new directory, for this user only."""
        path.mkdir(mode=0o700)

    def sync_directory(self, path: Path) -> None:
        """Make names that were made, changed or removed in `path` durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(disk: Disk, descriptor: int, data: bytes) -> None:
    """Write all of `data`, however little the disk takes at a time."""
    view = memoryview(data)
    while view:
        view = view[disk.write(descriptor, view) :]
