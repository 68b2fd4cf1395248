"""A disk in memory that forgets what was not synced, and can be told to fail. Implements `orch.bus.files.Files`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path


class Entry:
    """A file: its bytes, and how many of them (from the start) are durable."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = 0


class Disk:
    """`before` is called with the operation's name and path before each one; it may raise OSError, or do other things.

    `room` is how many more bytes can be written.
    """

    def __init__(self) -> None:
        self.files: dict[Path, Entry] = {}
        self.durable_names: set[Path] = set()
        self.handles: dict[int, tuple[Path, Entry]] = {}
        self.before: Callable[[str, Path], None] = lambda _what, _path: None
        self.room: int | None = None
        self._next = 3

    # What tests do to it

    def put(self, path: Path, data: bytes) -> None:
        """A file with these bytes, durable."""
        entry = Entry()
        entry.data[:] = data
        entry.durable = len(data)
        self.files[path] = entry
        self.durable_names.add(path)

    def get(self, path: Path) -> bytes:
        """A file's bytes."""
        return bytes(self.files[path].data)

    def power_cut(self) -> None:
        """Only what was synced is left."""
        self.files = {path: entry for path, entry in self.files.items() if path in self.durable_names}
        for entry in self.files.values():
            del entry.data[entry.durable :]
        self.handles.clear()

    # The port

    def make_dir(self, path: Path) -> None:
        self.before("make_dir", path)

    def list(self, directory: Path) -> list[str]:
        self.before("list", directory)
        return [path.name for path in self.files if path.parent == directory]

    def create(self, path: Path) -> int:
        self.before("create", path)
        if path in self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self.files[path] = Entry()
        return self._handle(path)

    def open(self, path: Path) -> int:
        self.before("open", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._handle(path)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        path, entry = self.handles[handle]
        self.before("read", path)
        return bytes(entry.data[offset : offset + size])

    def size(self, handle: int) -> int:
        return len(self.handles[handle][1].data)

    def write(self, handle: int, data: bytes) -> None:
        path, entry = self.handles[handle]
        self.before("write", path)
        if self.room is not None:
            fits, self.room = data[: self.room], max(0, self.room - len(data))
            entry.data += fits
            if len(fits) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return
        entry.data += data

    def open_again(self, path: Path) -> int:
        return self.open(path)

    def write_over(self, handle: int, offset: int, data: bytes) -> None:
        path, entry = self.handles[handle]
        self.before("write_over", path)
        entry.data[offset : offset + len(data)] = data

    def sync(self, handle: int) -> None:
        path, entry = self.handles[handle]
        self.before("sync", path)
        entry.durable = len(entry.data)

    def sync_dir(self, path: Path) -> None:
        self.before("sync_dir", path)
        self.durable_names |= {p for p in self.files if p.parent == path}

    def exists(self, path: Path) -> bool:
        self.before("exists", path)
        return path in self.files

    def close(self, handle: int) -> None:
        del self.handles[handle]

    def _handle(self, path: Path) -> int:
        self._next += 1
        self.handles[self._next] = path, self.files[path]
        return self._next
