"""Files that an attempt wants on a host which does not see the leader's store, but has a mirror of it.

    STORE/mirror              says that it is one, and of what
    STORE/wanted/bell         a named pipe: whoever writes to it makes the bridge look
    STORE/wanted/HASH.wish    the path of a file that somebody waits for
    STORE/wanted/HASH.no      why it cannot be had

What an attempt's record names is there before it starts. But a reference to a file can stand anywhere, in a pickle or
in a text that a job reads: so it is fetched when somebody wants it. Light: workers import this when one is missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time

from orch.store.private import make_private, open_private

MARKER = "mirror"
_WANTED = "wanted"
_BELL = "bell"
_WISH = ".wish"
_NO = ".no"
_SHORTEST, _LONGEST = 0.005, 0.25
"""Seconds between looks whether it has come."""


def is_mirror(store: str) -> bool:
    """Is this no store of its own, but what a host has of another's?"""
    return os.path.exists(os.path.join(store, MARKER))


def fetch(store: str, path: str) -> str:
    """Wait until `path` is there; empty, or why it cannot be had.

    However long that takes: while the leader is away, or cannot be reached, nobody knows what is in its store.
    """
    target, wish = os.path.join(store, path), _file(store, path, _WISH)
    no, pause = _file(store, path, _NO), _SHORTEST
    while not os.path.exists(target):
        if not os.path.exists(wish):
            with contextlib.suppress(OSError):  # of an earlier one who asked
                os.unlink(no)
            _write(wish, path)
            _ring(store)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
        why = _read(no)
        if why:
            return why
    return ""


# The bridge's side ------------------------------------------------------------------------------------------------


def make(store: str, of: str) -> None:
    """Have what is needed for wishes in a new mirror."""
    directory = os.path.join(store, _WANTED)
    make_private(directory)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(os.path.join(directory, _BELL), 0o600)
    _write(os.path.join(store, MARKER), of)


def open_bell(store: str) -> int:
    """A descriptor that can be read when somebody has rung."""
    return os.open(os.path.join(store, _WANTED, _BELL), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def wanted(store: str) -> list[str]:
    """The paths that somebody waits for."""
    directory = os.path.join(store, _WANTED)
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    paths = [_read(os.path.join(directory, name)) for name in names if name.endswith(_WISH)]
    return [path for path in paths if path]


def grant(store: str, path: str) -> None:
    """It is there."""
    _remove(_file(store, path, _WISH))


def deny(store: str, path: str, why: str) -> None:
    """It cannot be had."""
    _write(_file(store, path, _NO), why or "it is not there")
    _remove(_file(store, path, _WISH))


def _file(store: str, path: str, suffix: str) -> str:
    name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(store, _WANTED, f"{name}{suffix}")


def _ring(store: str) -> None:
    bell = os.path.join(store, _WANTED, _BELL)
    with contextlib.suppress(OSError):  # nobody listens: a bridge looks when it comes
        descriptor = os.open(bell, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b".")
        finally:
            os.close(descriptor)


def _write(path: str, text: str) -> None:
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", encoding="utf-8", errors="surrogateescape", opener=open_private) as file:
        file.write(text)
    os.replace(draft, path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
