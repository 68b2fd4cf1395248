"""Messages between an agent and its templates and workers: whole packets, with descriptors.

The sockets are of type SOCK_SEQPACKET: a packet arrives whole or not at all, also where several processes write to the
same end, as a template and all that it has forked do. What is too long for a packet travels as a memory file.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque

LIMIT = 96 * 1024
"""Bytes up to which a message is a packet; Linux allows about 200 KiB unless told otherwise."""

_INLINE = b"i"
_FILE = b"f"
_MOST_DESCRIPTORS = 8
_INT = array.array("i").itemsize
_SPACE = socket.CMSG_SPACE(_MOST_DESCRIPTORS * _INT)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message. Raises `BlockingIOError` if `end` does not block and there is no room."""
    if len(data) <= LIMIT:
        _send(end, _INLINE + data, descriptors)
        return
    file = os.memfd_create("orch", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        _send(end, _FILE, (file, *descriptors))
    finally:
        os.close(file)


def _send(end: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> None:
    if descriptors:
        end.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
    else:
        end.send(data, socket.MSG_NOSIGNAL)


def receive(end: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next message and the descriptors with it, which are the caller's to close; None when the other side is gone.

    Raises `BlockingIOError` if `end` does not block and there is nothing.
    """
    data, descriptors = _receive(end, 0)
    if not data:
        return None
    if data[:1] == _INLINE:
        return data[1:], descriptors
    return _contents(descriptors.pop(0)), descriptors


def discard(end: socket.socket) -> None:
    """Take the next message and drop it. Raises `BlockingIOError` if there is none, whether `end` blocks or not."""
    for each in _receive(end, socket.MSG_DONTWAIT)[1]:
        os.close(each)


def _receive(end: socket.socket, flags: int) -> tuple[bytes, list[int]]:
    data, ancillary, _flags, _address = end.recvmsg(LIMIT + 1, _SPACE, socket.MSG_CMSG_CLOEXEC | flags)
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found = array.array("i")
            found.frombytes(payload[: len(payload) - len(payload) % _INT])
            descriptors.extend(found)
    return data, descriptors


def _contents(file: int) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(0)
        return opened.read()


class Sender:
    """The sending side of an end that does not block: what finds no room waits here, in order.

    Descriptors are duplicated while they wait, so that the caller may close its own at once.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()

    def send(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send, or keep for `flush`. An end whose other side is gone swallows everything."""
        if not self._waiting:
            try:
                send(self._end, data, descriptors)
                return
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionError):
                return
        self._waiting.append((data, tuple(os.dup(each) for each in descriptors)))

    def flush(self) -> bool:
        """Send what waits; True if nothing is left."""
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                send(self._end, data, descriptors)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionError):
                pass
            self._waiting.popleft()
            for each in descriptors:
                os.close(each)
        return True

    @property
    def waiting(self) -> bool:
        """Is something left for `flush`?"""
        return bool(self._waiting)

    def close(self) -> None:
        """Forget what waits."""
        while self._waiting:
            for each in self._waiting.popleft()[1]:
                os.close(each)
