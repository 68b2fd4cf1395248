"""Disks of a test's own: small ones, read-only ones. They are mounted in a namespace that ends with the test.

A scenario is a function of the test's module, and gets the test's directory; it runs in a process of its own, which may
mount what it likes. Ordinary users may do so as well, where the system lets them (user_namespaces(7)).
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
CODE = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
getattr(importlib.import_module(sys.argv[2]), sys.argv[3])(pathlib.Path(sys.argv[4]))
"""


@functools.cache
def why_not() -> str:
    """Why nothing can be mounted here; empty if it can."""
    try:
        done = subprocess.run(
            [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return str(error)
    return "" if done.returncode == 0 else f"no disk can be mounted in a namespace: {done.stderr.strip()}"


def play(scenario: Callable[[Path], None], place: Path) -> None:
    """Run a scenario where it can mount disks, or skip the test with the reason."""
    if why_not():
        pytest.skip(why_not())
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-c", CODE, str(TESTS), scenario.__module__, scenario.__name__, str(place)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def small_disk(path: Path, size: str) -> None:
    """In a scenario: a disk of `size` (tmpfs(5)) at `path`, for this user only."""
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", str(path))


def grow(path: Path, size: str) -> None:
    """In a scenario: more room on a disk."""
    _run("mount", "-o", f"remount,size={size}", str(path))


def read_only(path: Path) -> None:
    """In a scenario: nothing below `path` can be changed any more."""
    _run("mount", "--bind", str(path), str(path))
    _run("mount", "-o", "remount,bind,ro", str(path))


def writable(path: Path) -> None:
    """In a scenario: as it was before `read_only`."""
    _run("umount", str(path))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
