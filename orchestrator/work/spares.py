"""Empty directories that are used again as scratch directories.

Nearly all attempts leave theirs empty, and on some file systems removing a directory takes a millisecond. So it is
renamed into a `spare` directory beside the root of the scratch directories, if there is one, and renamed again for the
next attempt. A rename has one winner, so that any number of processes can share them; there are never more of them
than attempts have run at once.
"""

from __future__ import annotations

import itertools
import os
import stat

SPARE = "spare"
TRASH = "trash"
KEPT = "kept"
NOTE = "scratch directory"
"""The name of the annotation that says where one was kept."""
FRESH = 4096
"""Bytes of a directory that never held much; one that has grown stays long, and slow."""

_numbers = itertools.count(1)


def make(path: str) -> None:
    """A new empty directory at `path`. Raises `OSError`, `FileExistsError` if there is something."""
    spare = _spare(path)
    for name in _names(spare):
        try:
            os.rename(f"{spare}/{name}", path)
        except FileNotFoundError:  # somebody else took it
            continue
        except OSError:  # something is at `path`, most likely: mkdir will say
            break
        if not os.listdir(path):
            return
        os.rename(path, f"{os.path.dirname(spare)}/{TRASH}/{name}")  # somebody wrote there a moment too late
        break
    os.mkdir(path, 0o700)


def drop(path: str) -> bool:
    """Remove the directory at `path` if it is empty or not there; False if it is still there."""
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or os.listdir(path):
            return False
        if stat.S_IMODE(found.st_mode) == 0o700 and found.st_size <= FRESH and found.st_uid == os.getuid():
            os.rename(path, f"{_spare(path)}/{os.getpid()}.{next(_numbers)}")
            return True
    except FileNotFoundError:
        if not os.path.lexists(path):
            return True
    except OSError:
        pass
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def keep(path: str, directory: str) -> str:
    """Put a scratch directory aside, in `directory`, whatever is there already; where it is now.

    Empty if there is nothing in it; then it is removed. Raises `OSError`.
    """
    if drop(path):
        return ""
    import shutil

    os.makedirs(directory, mode=0o700, exist_ok=True)
    target, number = os.path.join(directory, os.path.basename(path)), 1
    while os.path.lexists(target):
        number += 1
        target = os.path.join(directory, f"{os.path.basename(path)}.{number}")
    return str(shutil.move(path, target))


def _spare(path: str) -> str:
    return f"{os.path.dirname(os.path.dirname(path))}/{SPARE}"


def _names(spare: str) -> list[str]:
    try:
        return os.listdir(spare)
    except OSError:
        return []
