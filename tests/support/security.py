"""For tests of who may do what: the command as another kind of user, and what others may read."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from support.command import ORCH

Started: TypeAlias = "subprocess.Popen[str]"

OTHER_KIND = "root" if os.geteuid() else "not root"
"""What these tests are not."""


def as_user(kind: str) -> list[str]:
    """A prefix for commands, which then find themselves to be "root" or "not root" (user_namespaces(7)).

    Files that they make belong to the user of these tests all the same.
    """
    if kind != OTHER_KIND:
        return []
    user = "0" if kind == "root" else "1000"
    prefix = ["unshare", "--user", f"--map-user={user}", f"--map-group={user}", "--"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"this system lets nobody be {kind} in a user namespace, and these tests are not run as such")
    return prefix


@contextlib.contextmanager
def start(*args: str | Path, cwd: Path, umask: int = 0o022, kind: str = "", **env: str) -> Iterator[Started]:
    """The `orch` command, while the block lasts; killed at its end if it still runs."""
    process = subprocess.Popen(
        [*as_user(kind), *ORCH, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def everything(root: Path) -> Iterator[Path]:
    """A directory, and all that is below it. Links are not followed."""
    yield root
    for directory, names, files in os.walk(root):
        yield from (Path(directory, name) for name in (*names, *files))


def open_to_others(*roots: Path) -> list[str]:
    """What others than its owner may read, write or enter; the permissions of a link mean nothing."""
    return [
        f"{path.lstat().st_mode & 0o7777:o} {path}"
        for root in roots
        for path in everything(root)
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]
