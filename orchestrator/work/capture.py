"""Copies a program's output to this process's own streams, and keeps its beginning and its end."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
from collections.abc import Sequence
from typing import IO, Any

_CHUNK = 65536


class Capture:
    """What one stream said: up to `limit` bytes, its head and its tail; the cut is told in the text."""

    def __init__(self, limit: int, copy: IO[str] | None) -> None:
        self._half = max(limit // 2, 1)
        self._copy = copy
        self._head = bytearray()
        self._tail = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        """The program wrote `data`."""
        self._pass_on(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        if len(self._tail) > 2 * self._half:
            self._shorten()

    def text(self) -> str:
        """All of it, or head and tail around a line that says what is missing."""
        self._shorten()
        parts = [self._head, self._tail]
        if self._cut:
            parts.insert(1, bytearray(f"\n… {self._cut} bytes were left out …\n".encode()))
        return b"".join(parts).decode(errors="replace")

    def _shorten(self) -> None:
        over = len(self._tail) - self._half
        if over > 0:
            del self._tail[:over]
            self._cut += over

    def _pass_on(self, data: bytes) -> None:
        if self._copy is None:
            return
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            self._copy.flush()
            view, target = memoryview(data), self._copy.fileno()
            while view:
                view = view[os.write(target, view) :]


def copy_streams(process: subprocess.Popen[bytes], data: bytes, captures: Sequence[Capture]) -> None:
    """Feed `data` to the program and read what it writes, until it has ended.

    What a process that it left behind still holds open is not waited for.
    """
    with selectors.DefaultSelector() as selector:
        streams = {process.stdout: captures[0], process.stderr: captures[1]}
        for stream, capture in streams.items():
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, capture)
        view = memoryview(data)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        with _exit_descriptor(process.pid) as ended:
            if ended is not None:
                selector.register(ended, selectors.EVENT_READ)
            view = _pump(selector, view, ended)
        _drain(selector)


def _pump(selector: selectors.BaseSelector, view: memoryview, ended: int | None) -> memoryview:
    """Until the program has ended, or both its streams have."""
    while _readers(selector):
        for key, _ in selector.select():
            if key.fileobj == ended:
                selector.unregister(key.fileobj)
                return view
            if key.data is None:
                view = _feed(selector, key.fileobj, view)
            elif not _read(key):
                selector.unregister(key.fileobj)
    return view


def _readers(selector: selectors.BaseSelector) -> bool:
    return len(selector.get_map()) > 0


def _read(key: selectors.SelectorKey) -> bool:
    """Take what is there; False at the end of the stream."""
    try:
        chunk = os.read(key.fd, _CHUNK)
    except BlockingIOError:
        return True
    key.data.add(chunk)
    return bool(chunk)


def _feed(selector: selectors.BaseSelector, stdin: Any, view: memoryview) -> memoryview:
    try:
        view = view[os.write(stdin.fileno(), view[:_CHUNK]) :]
    except BlockingIOError:
        return view
    except OSError:  # it does not want to read all of it
        view = view[:0]
    if not view:
        selector.unregister(stdin)
        with contextlib.suppress(OSError):
            stdin.close()
    return view


def _drain(selector: selectors.BaseSelector) -> None:
    """What the program wrote before it ended is in the pipes still."""
    for key in list(selector.get_map().values()):
        if key.data is None:
            continue
        os.set_blocking(key.fd, False)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(key.fd, _CHUNK):
                key.data.add(chunk)


@contextlib.contextmanager
def _exit_descriptor(pid: int) -> Any:
    """A descriptor that becomes readable when the process has ended; None where there is no such thing."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
