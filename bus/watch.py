"""Being woken when something changes in a directory: inotify(7), which Python does not have.

It sees what this host does, and nothing of what other hosts do on a shared file system; and a user may have no more of
them left. So it ends waits early, and nobody relies on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from pathlib import Path

import anyio

_MODIFY, _CREATE = 0x2, 0x100

_libc = ctypes.CDLL(None)
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


class Watch:
    """Waits for changes in `directory`, which may not be there yet.

    Whoever waits is going to look at what is there, and so a change before the end of a wait is none for the next one.
    Waits of up to `plain` seconds are not cut short: who is woken often does more at once.
    """

    def __init__(self, directory: Path, plain: float = 0.0) -> None:
        self._path = os.fsencode(directory)
        self._plain = plain
        self._handle = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watches = self._handle >= 0 and self._add()

    def close(self) -> None:
        """Let go of it. Again: does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def wait(self, seconds: float) -> None:
        """Block for so long, or until something has changed since the last wait."""
        if self._cuts(seconds):
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            poll.poll(seconds * 1000)
        else:
            time.sleep(seconds)
        self._forget()

    async def sleep(self, seconds: float) -> None:
        """As `wait`, while the loop goes on."""
        if self._cuts(seconds):
            with anyio.move_on_after(seconds):
                await anyio.wait_readable(self._handle)
        else:
            await anyio.sleep(seconds)
        self._forget()

    def _cuts(self, seconds: float) -> bool:
        """Is this a wait that a change may end?"""
        if self._handle < 0:
            return False
        self._watches = self._watches or self._add()
        return self._watches and seconds > self._plain

    def _add(self) -> bool:
        found: int = _libc.inotify_add_watch(self._handle, self._path, _MODIFY | _CREATE)
        return found >= 0

    def _forget(self) -> None:
        """What has changed up to now is about to be looked at."""
        if self._handle >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self._handle, 65536)
