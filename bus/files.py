"""File operations of the log, as a port: the real ones here, simulated or failing ones in tests.

Handles are opaque ints. Every operation may raise OSError; the callers turn that into `LogTrouble`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol


class NotAFile(OSError):
    """Under the name of a file there is something else; `strerror` says what."""


class Files(Protocol):
    """What the log needs from a file system: no locks, no append mode, no renames, no memory maps."""

    def make_dir(self, path: Path) -> None:
        """Make a directory and its parents (mode 0700), durably. It may exist."""
        ...

    def list(self, directory: Path) -> list[str]:
        """Names in a directory; none if there is no such directory."""
        ...

    def create(self, path: Path) -> int:
        """Create a file (mode 0600) for writing; FileExistsError if the name is taken."""
        ...

    def open(self, path: Path) -> int:
        """Open a file for reading. Raises NotAFile, without waiting, for a named pipe and the like."""
        ...

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`; fewer only at the end of the file."""
        ...

    def size(self, handle: int) -> int:
        """Length of the file in bytes."""
        ...

    def write(self, handle: int, data: bytes) -> None:
        """Write all of `data` behind what was written before."""
        ...

    def open_again(self, path: Path) -> int:
        """Open a file that is there, for writing over what it has."""
        ...

    def write_over(self, handle: int, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        ...

    def sync(self, handle: int) -> None:
        """Make the file's bytes durable. A failure is final: what is lost may not be reported twice."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""
        ...

    def exists(self, path: Path) -> bool:
        """Is there such a file now, also if another host has just made it?"""
        ...

    def close(self, handle: int) -> None:
        """Give the handle back."""
        ...


class RealFiles:
    """The operating system's files."""

    def make_dir(self, path: Path) -> None:
        """Make what is missing from the top down, and sync each parent that got a new name."""
        missing = [p for p in (path, *path.parents) if not p.exists()]
        for new in reversed(missing):
            new.mkdir(mode=0o700, exist_ok=True)
            self.sync_dir(new.parent)

    def list(self, directory: Path) -> list[str]:
        """Names, in no order."""
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []

    def create(self, path: Path) -> int:
        """O_EXCL is atomic on NFS too (version 3 and later: open(2))."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        """A new descriptor each time: on NFS only an open sees what other hosts have written (close-to-open)."""
        handle = _open_at_once(path)
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            os.close(handle)
            raise _not_a_file(path, _KINDS.get(stat.S_IFMT(mode), "a device"))
        return handle

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Usually one call; pread may return less in the middle of a file on some file systems."""
        data = os.pread(handle, size, offset)
        while data and len(data) < size:
            more = os.pread(handle, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def size(self, handle: int) -> int:
        """As the operating system knows it now."""
        return os.fstat(handle).st_size

    def write(self, handle: int, data: bytes) -> None:
        """One call, unless the file system takes less than it was given."""
        done = os.write(handle, data)
        while done < len(data):
            done += os.write(handle, data[done:])

    def open_again(self, path: Path) -> int:
        """Neither created nor cut."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write_over(self, handle: int, offset: int, data: bytes) -> None:
        """One call, unless the file system takes less than it was given."""
        done = 0
        while done < len(data):
            done += os.pwrite(handle, data[done:], offset + done)

    def sync(self, handle: int) -> None:
        """fdatasync: also the length, as far as it is needed to read the bytes back (fdatasync(2))."""
        os.fdatasync(handle)

    def sync_dir(self, path: Path) -> None:
        """Directories are synced by fsync on a descriptor of them (fsync(2))."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def exists(self, path: Path) -> bool:
        """Opening the directory first makes NFS clients ask the server whether it has changed."""
        os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return os.path.lexists(path)

    def close(self, handle: int) -> None:
        """Errors matter: NFS may report a failed write only here."""
        os.close(handle)


_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe"}


def _open_at_once(path: Path) -> int:
    """O_NONBLOCK: opening a named pipe must not wait for a writer (fifo(7))."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except BlockingIOError:  # a lease is being given back (open(2)); only regular files can have one
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise _not_a_file(path, "a link that leads nowhere") from None
        raise
    except OSError as e:
        if e.errno == errno.ENXIO:
            raise _not_a_file(path, "a socket, or a device that is not there") from None
        raise


def _not_a_file(path: Path, what: str) -> NotAFile:
    return NotAFile(errno.EINVAL, f"this is {what}, not a regular file", str(path))


REAL: Files = RealFiles()
"""The default of everything that takes a `Files`."""
