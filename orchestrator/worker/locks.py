"""Locks that say that somebody lives: the kernel lets go of them with their holder (flock(2))."""

from __future__ import annotations

import fcntl
import os


def try_lock(path: str, flags: int = os.O_RDWR) -> int:
    """Lock a file that is there, as long as the descriptor is open; -1 if somebody else has it, or there are no locks.

    A network file system needs one that may be written to.
    """
    try:
        lock = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return -1
    return lock
