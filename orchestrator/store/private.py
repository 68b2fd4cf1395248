"""Directories and files that are for this user only, whatever the umask is. Light: agents and workers use it."""

from __future__ import annotations

import os


def make_private(path: str) -> None:
    """A directory, with what is missing above it (0700). It may exist. Raises `OSError`."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above != path:
        make_private(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):  # else somebody was faster
            raise


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: a file that it makes is 0600."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
