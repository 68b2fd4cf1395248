"""Directories and files that are for this user only, whatever the umask is. Light: agents and workers use it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_TRIES = 100
_DANGER = "who can thus run code as you"


def make_private(path: str) -> None:
    """A directory, with what is missing above it (0700). It may exist. Raises `OSError`.

    Others may remove what is above it while that is empty, and make it again: then it is tried again.
    """
    for _ in range(_TRIES):
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        if above != path:
            make_private(above)
        with contextlib.suppress(FileNotFoundError):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(path).st_mode):  # else somebody was faster
                    raise
    if not os.path.isdir(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: a file that it makes is 0600."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def exposed(root: str) -> str:
    """Who else can put something into the store at `root`, as a warning; empty: nobody.

    Values in a store are pickles, so whoever writes there runs code as whoever reads it.
    """
    for name in ("", "bundles", "runs", "agents", "requests"):
        path = os.path.join(root, name) if name else root
        try:
            found = os.stat(path)
        except OSError:  # not made yet, or not ours to look at: then it is of no use either
            continue
        if found.st_uid not in (os.geteuid(), 0):
            return f"{path} belongs to another user ({found.st_uid}), {_DANGER}: use a store of your own"
        if found.st_mode & 0o022:
            return f"{path} can be written to by other users, {_DANGER}: chmod go-w {path}"
    return ""
