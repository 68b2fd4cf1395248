"""Captured output: a pair of nameless files an attempt, bounded by giving the middle back to the disk.

The files are opened for appending, so that all processes of an attempt may write to them. Once a stream has grown
beyond its limit, everything between its head and its tail is punched out: the file keeps its length, and takes no more
than the limit, and what is written between two looks, on disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile

from orch.agent.linux import punch_hole
from orch.bus.events import EMPTY, INLINE_LIMIT, Blob
from orch.store.blobs import make_blob
from orch.store.file import FileStore

_BLOCK = 4096
_REUSE = 1024 * 1024
"""Files that grew beyond this many bytes are given back to the disk."""


class Stream:
    """One captured stream. `limit` is the number of bytes kept of it."""

    __slots__ = ("_cut", "_head", "_punched", "file", "limit")

    def __init__(self, file: int, limit: int = 0) -> None:
        self.file = file
        self.limit = limit
        self._punched = 0
        self._cut = 0
        self._head = b""

    def reset(self, limit: int) -> None:
        """Use the file for another attempt."""
        self.limit = limit
        if self._punched or not self.empty:
            os.ftruncate(self.file, 0)
            self._punched = self._cut = 0
            self._head = b""

    @property
    def empty(self) -> bool:
        """Has nothing been written to it?"""
        return not self._cut and self.size == 0

    @property
    def size(self) -> int:
        """Bytes in the file, holes among them."""
        return os.fstat(self.file).st_size

    def bound(self) -> None:
        """Keep no more than head and tail on disk."""
        size = self.size
        half = self.limit // 2
        start = max(self._punched, -(-half // _BLOCK) * _BLOCK)
        end = (size - half) // _BLOCK * _BLOCK
        if size <= self.limit + _BLOCK or end <= start:
            return
        try:
            punch_hole(self.file, start, end - start)
            self._punched = end
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
            self._start_again(size, half)

    def _start_again(self, size: int, half: int) -> None:
        """For file systems without holes: keep the head here, and empty the file."""
        if not self._head:
            self._head = os.pread(self.file, half, 0)
            self._cut -= len(self._head)
        self._cut += size
        os.ftruncate(self.file, 0)

    def read(self, most: int = 0) -> tuple[bytes, int]:
        """What is kept (of that, at most `most` bytes if given), and how many bytes were left out in the middle."""
        keep = min(most, self.limit) if most else self.limit
        size = self.size
        total = len(self._head) + self._cut + size
        if total <= keep and not self._cut:
            return self._read(0, size), 0
        half = keep // 2
        head = self._head[:half] if self._head else self._read(0, min(half, size))
        tail = self._read(max(0, size - half), min(half, size))
        cut = total - len(head) - len(tail)
        if cut <= 0:
            return head + tail, 0
        return head + f"\n[orch: {cut} bytes left out here]\n".encode() + tail, cut

    def _read(self, start: int, length: int) -> bytes:
        parts = []
        while length > 0 and (data := os.pread(self.file, min(length, 1 << 20), start)):
            parts.append(data)
            start += len(data)
            length -= len(data)
        return b"".join(parts)

    def blob(self, store: FileStore, path: str) -> Blob:
        """What is kept, inline or as a file of the store (not synced)."""
        if self.empty:
            return EMPTY
        data, cut = self.read()
        blob = make_blob(store, path, data, sync=False)
        return Blob(data=blob.data, file=blob.file, size=blob.size, cut=cut)


class Capture:
    """Standard output and standard error of one attempt."""

    __slots__ = ("err", "out")

    def __init__(self, out: Stream, err: Stream) -> None:
        self.out = out
        self.err = err

    @property
    def empty(self) -> bool:
        """Has nothing been written to either?"""
        return self.out.empty and self.err.empty

    def bound(self) -> None:
        """Keep no more on disk than the limit allows."""
        self.out.bound()
        self.err.bound()

    def read(self, most: int = INLINE_LIMIT) -> tuple[bytes, bytes]:
        """Head and tail of both."""
        return self.out.read(most)[0], self.err.read(most)[0]

    def close(self) -> None:
        """Give the files back to the disk."""
        os.close(self.out.file)
        os.close(self.err.file)


class Captures:
    """Makes pairs of files in `directory`, and uses those again that hold little. Raises `OSError`."""

    def __init__(self, directory: str, spare: int = 64) -> None:
        self._directory = directory
        self._spare = spare
        self._free: list[Capture] = []

    def take(self, limit: int, key: str = "") -> Capture:
        """An empty pair. `key`: of the attempt that it is for, if it is for one alone."""
        if self._free:
            capture = self._free.pop()
            capture.out.reset(limit)
            capture.err.reset(limit)
            return capture
        out = _nameless(self._directory)
        try:
            return Capture(Stream(out, limit), Stream(_nameless(self._directory), limit))
        except BaseException:  # nobody else will close it, whatever went wrong
            os.close(out)
            raise

    def give_back(self, capture: Capture, *, reuse: bool = True) -> None:
        """Not needed any more. `reuse`: nobody can write to it any more."""
        if reuse and len(self._free) < self._spare and max(capture.out.size, capture.err.size) <= _REUSE:
            self._free.append(capture)
        else:
            capture.close()

    def close(self) -> None:
        """Close the spare ones."""
        while self._free:
            self._free.pop().close()


def _nameless(directory: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        return os.open(directory, flags | os.O_TMPFILE, 0o600)
    descriptor, path = tempfile.mkstemp(dir=directory)  # a file system without O_TMPFILE, or a real trouble
    os.close(descriptor)
    try:
        return os.open(path, flags)
    finally:
        os.unlink(path)
