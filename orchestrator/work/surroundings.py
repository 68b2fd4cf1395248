"""What surrounds an attempt in this process: its scratch directory, the environment, the current directory, streams.

Everything is put back at the end, for a warm worker runs many attempts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Mapping
from typing import Any, Self

from orch.store.layout import safe_name
from orch.store.private import make_private
from orch.work import spares
from orch.work.variables import set_variable, variables

_TMPDIR = b"TMPDIR"


def scratch_name(key: str) -> str:
    """The name of an attempt's scratch directory below `Place.scratch`. Different keys have different names."""
    return f"{safe_name(key)}-{zlib.crc32(key.encode()):08x}"


class Surroundings:
    """Entered around an attempt. `path` is its scratch directory, `used` the bytes that were left in it at the end.

    With `keep` what is left in it stays, for whoever started this process to put aside.

    `env`   are variables of the attempt alone
    `lent`  a directory that is there and empty is to be the scratch directory, and is both again at the end
    `aside` it runs in a thread beside others, and so what belongs to the whole process is left alone; there is only
            the scratch directory
    `last`  nothing else runs in this process afterwards, so that nothing need be put back
    """

    def __init__(
        self,
        root: str,
        key: str,
        cwd: str,
        env: Mapping[str, str] | None = None,
        *,
        lent: str = "",
        aside: bool = False,
        last: bool = False,
    ) -> None:
        self.path = lent or os.path.join(root, scratch_name(key))
        self.used = 0
        self.keep = False
        self._cwd = cwd
        self._env = env
        self._lent = bool(lent)
        self._aside = aside
        self._last = last
        self._process: _Process | None = None

    def __enter__(self) -> Self:
        if not self._lent:
            _make(self.path)
        if self._aside:
            return self
        if not self._last:
            self._process = _Process()
        if self._cwd:
            with contextlib.suppress(OSError):  # a host that lacks the directory runs the job where it is
                os.chdir(self._cwd)
        if self._env:
            os.environ.update(self._env)
        set_variable(_TMPDIR, self.path.encode(errors="surrogateescape"))
        _set_tempdir(self.path)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.restore()
            _set_tempdir(None)
        if self._lent:
            self._give_back()
        elif not spares.drop(self.path):  # it is empty nearly always
            self.used = size_on_disk(self.path)
            if not self.keep:
                _remove(self.path)

    def _give_back(self) -> None:
        try:
            if os.listdir(self.path):
                self.used = size_on_disk(self.path)
                if not self.keep:
                    _remove(self.path)
                    os.mkdir(self.path, 0o700)
        except OSError:  # not there, or no directory: whoever has lent it will see
            return


def _make(path: str) -> None:
    try:
        spares.make(path)
    except FileNotFoundError:
        make_private(path)
    except FileExistsError:  # an earlier agent could not remove it
        _remove(path)
        os.mkdir(path, 0o700)


class _Process:
    """What belongs to the whole process, as it was before an attempt."""

    def __init__(self) -> None:
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._environment = variables().copy()
        self._directory: str | None = None
        with contextlib.suppress(OSError):
            self._directory = os.getcwd()

    def restore(self) -> None:
        """Put it back."""
        if self._directory is not None:
            with contextlib.suppress(OSError):
                os.chdir(self._directory)
        before, now = self._environment, variables()
        _put_back(_TMPDIR, before)
        if now != before:
            for name in {name for name, _ in now.items() ^ before.items()}:
                _put_back(name, before)
        sys.stdin, sys.stdout, sys.stderr = self._streams


def _put_back(name: bytes, before: Mapping[bytes, bytes]) -> None:
    if name in before:
        set_variable(name, before[name])
    else:
        os.environb.pop(name, None)


def _set_tempdir(path: str | None) -> None:
    """`tempfile` asks `$TMPDIR` only once. Not imported here: most jobs do without it."""
    module: Any = sys.modules.get("tempfile")
    if module is not None:
        module.tempdir = path


def size_on_disk(root: str, most: int = 1 << 62) -> int:
    """Bytes on disk of all files below `root`; what cannot be seen is not counted, nor is what comes after `most`."""
    total, waiting = 0, [root]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as scan:
                for entry in scan:
                    most -= 1
                    if most < 0:
                        return total
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
