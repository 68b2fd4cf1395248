"""What surrounds an attempt in this process: its scratch directory, `$TMPDIR`, the current directory.

Everything is put back at the end, for a warm worker runs many attempts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from typing import Any, Self

from orch.store.layout import safe_name
from orch.store.private import make_private
from orch.work import spares


def scratch_name(key: str) -> str:
    """The name of an attempt's scratch directory below `Place.scratch`. Different keys have different names."""
    return f"{safe_name(key)}-{zlib.crc32(key.encode()):08x}"


class Surroundings:
    """Entered around an attempt. `path` is its scratch directory, `used` the bytes that were left in it at the end."""

    def __init__(self, root: str, key: str, cwd: str) -> None:
        self.path = os.path.join(root, scratch_name(key))
        self.used = 0
        self._cwd = cwd
        self._before: str | None = None
        self._tmpdir: str | None = None

    def __enter__(self) -> Self:
        try:
            spares.make(self.path)
        except FileNotFoundError:
            make_private(self.path)
        except FileExistsError:  # an earlier agent could not remove it
            _remove(self.path)
            os.mkdir(self.path, 0o700)
        self._tmpdir = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self.path
        _set_tempdir(self.path)
        self._enter_cwd()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.chdir(self._before)
        if self._tmpdir is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = self._tmpdir
        _set_tempdir(None)
        if not spares.drop(self.path):  # it is empty nearly always
            self.used = _size(self.path)
            _remove(self.path)

    def _enter_cwd(self) -> None:
        if not self._cwd:
            return
        with contextlib.suppress(OSError):
            self._before = os.getcwd()
        with contextlib.suppress(OSError):  # a host that lacks the directory runs the job where it is
            os.chdir(self._cwd)


def _set_tempdir(path: str | None) -> None:
    """`tempfile` asks `$TMPDIR` only once. Not imported here: most jobs do without it."""
    module: Any = sys.modules.get("tempfile")
    if module is not None:
        module.tempdir = path


def _size(root: str) -> int:
    """Bytes on disk of all files below `root`; what cannot be seen is not counted."""
    total, waiting = 0, [root]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as scan:
                for entry in scan:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def _remove(root: str) -> None:
    """Remove a tree, also where a job has taken away its own permissions."""
    import shutil

    shutil.rmtree(root, ignore_errors=True)
    if not os.path.lexists(root):
        return
    with contextlib.suppress(OSError):
        os.chmod(root, 0o700)
    for directory, names, _files in os.walk(root):
        for name in names:  # before the walk goes into them; what a link leads to is not ours
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(root, ignore_errors=True)
