"""A simulated disk. A process that is killed loses nothing that it wrote; a power cut loses what was not synced.

Of what was not synced, anything may survive: all of it, none, its beginning, or single sectors with holes of zeros
between them, later ones without earlier ones. The same holds for names: a new file whose directory was not synced may
be gone, and a rename may not have happened.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from simulator.world import World

SECTOR = 512
"""Bytes that are written wholly or not at all."""


class Inode:
    """A file: its bytes as processes see them, those on the platter, and what was written since the last sync."""

    __slots__ = ("data", "pending", "platter")

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.platter = bytes(data)
        self.pending: list[tuple[int, bytes]] = []


class Faults:
    """Chances of failing, and how slow it is (seconds at most), by operation. `room`: bytes left; None: enough."""

    def __init__(self) -> None:
        self.latency: dict[str, float] = {}
        self.errors: dict[str, float] = {}
        self.room: int | None = None


class Disk:
    """Files by path; there are no directories to make. Handles are numbers."""

    def __init__(self, world: World) -> None:
        self.faults = Faults()
        self.names: dict[Path, Inode] = {}
        self.cuts = 0
        self._durable: dict[Path, Inode] = {}
        self._unsynced: dict[Path, list[Callable[[dict[Path, Inode]], object]]] = {}
        self._handles: dict[int, tuple[Path, Inode]] = {}
        self._tainted: set[int] = set()
        self._next = 3
        self._world = world

    # What goes wrong.

    def latency(self, what: str) -> float:
        """How long an operation takes this time."""
        most = self.faults.latency.get(what, self.faults.latency.get("", 0.0))
        return self._world.chance.uniform(0.0, most) if most else 0.0

    def fail(self, what: str, path: Path) -> None:
        """Raise OSError if the operation fails this time."""
        if self._world.likely(self.faults.errors.get(what, 0.0)):
            name = "a temporary file" if path.name.startswith(".") else path.name  # whose name is different each time
            self._world.say("disk", f"{what} fails with EIO: {name}")
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def power_cut(self) -> None:
        """Only the platter is left, and what of the rest was on its way to it."""
        self.cuts += 1
        chance = self._world.chance
        for directory in self._unsynced.values():
            for change in directory[: chance.randint(0, len(directory))]:
                change(self._durable)
        self._unsynced.clear()
        self.names = dict(self._durable)
        for inode in dict.fromkeys(self.names.values()):
            self._lose(inode)
        self._handles.clear()

    def _lose(self, inode: Inode) -> None:
        chance = self._world.chance
        data = bytearray(inode.platter)
        sectors = [part for offset, written in inode.pending for part in _sectors(offset, written)]
        match chance.choice(["none", "all", "beginning", "some"]):
            case "none":
                sectors = []
            case "beginning":
                sectors = sectors[: chance.randint(0, len(sectors))]
            case "some":
                sectors = [part for part in sectors if chance.random() < 0.5]
        for offset, part in sectors:
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(part)] = part
        inode.data = data
        inode.platter = bytes(data)
        inode.pending = []

    # What processes do.

    def list(self, directory: Path) -> list[str]:
        return [path.name for path in self.names if path.parent == directory]

    def create(self, path: Path) -> int:
        if path in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        inode = self.names[path] = Inode()
        self._changed(path, lambda names: names.__setitem__(path, inode))
        return self._handle(path)

    def open(self, path: Path) -> int:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._handle(path)

    def rename(self, source: Path, target: Path) -> None:
        inode = self.names[target] = self.names.pop(source)

        def change(names: dict[Path, Inode]) -> None:
            names.pop(source, None)
            names[target] = inode

        self._changed(target, change)

    def unlink(self, path: Path) -> None:
        if self.names.pop(path, None) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._changed(path, lambda names: names.pop(path, None))

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return bytes(self._inode(handle).data[offset : offset + size])

    def size(self, handle: int) -> int:
        return len(self._inode(handle).data)

    def write(self, handle: int, data: bytes) -> int:
        """Write as much as there is room for, at the end; how much that was."""
        inode = self._inode(handle)
        room = self.faults.room
        if room is not None:
            data = data[:room]
            self.faults.room = room - len(data)
        inode.pending.append((len(inode.data), data))
        inode.data += data
        return len(data)

    def write_over(self, handle: int, offset: int, data: bytes) -> None:
        inode = self._inode(handle)
        inode.pending.append((offset, data))
        inode.data[offset : offset + len(data)] = data

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file to a length; durable at once (a simplification: a journaling file system orders it)."""
        inode = self._inode(handle)
        del inode.data[size:]
        inode.platter = bytes(inode.data)
        inode.pending = []

    def sync(self, handle: int) -> None:
        inode = self._inode(handle)
        if handle in self._tainted:
            self._tainted.remove(handle)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path_of(handle)))
        for offset, data in inode.pending:
            platter = bytearray(inode.platter)
            platter.extend(bytes(max(0, offset - len(platter))))
            platter[offset : offset + len(data)] = data
            inode.platter = bytes(platter)
        inode.pending = []

    def fail_sync(self, handle: int) -> None:
        """A failed sync: some of what was written will never reach the platter.

        Who has the file open now hears of it, once; who opens it later does not (fsync(2), "NOTES", since Linux 4.13).
        """
        inode = self._inode(handle)
        inode.pending = [part for part in inode.pending if self._world.likely(0.5)]
        self._tainted |= {other for other, (_, each) in self._handles.items() if each is inode and other != handle}

    def sync_dir(self, path: Path) -> None:
        for change in self._unsynced.pop(path, ()):
            change(self._durable)

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def get(self, path: Path) -> bytes | None:
        """A file's bytes; None if there is none."""
        inode = self.names.get(path)
        return None if inode is None else bytes(inode.data)

    def durable(self, path: str) -> bytes | None:
        """What a power cut now would leave of a file, at worst; None: nothing."""
        inode = self._durable.get(Path(path))
        return None if inode is None else inode.platter

    def path_of(self, handle: int) -> Path:
        """Which file a handle is for."""
        return self._handles[handle][0] if handle in self._handles else Path("?")

    def _inode(self, handle: int) -> Inode:
        if handle not in self._handles:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._handles[handle][1]

    def _handle(self, path: Path) -> int:
        self._next += 1
        self._handles[self._next] = path, self.names[path]
        return self._next

    def _changed(self, path: Path, change: Callable[[dict[Path, Inode]], object]) -> None:
        self._unsynced.setdefault(path.parent, []).append(change)


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    """A write, cut where sectors end."""
    parts = []
    while data:
        first = SECTOR - offset % SECTOR
        parts.append((offset, data[:first]))
        offset, data = offset + first, data[first:]
    return parts
