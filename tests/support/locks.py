"""Locks of runs, as others have left them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from orch.bus.lease import Grip, Holder
from orch.bus.lock import Means


def unsupported(_handle: int, _kind: int) -> Grip:
    return "unsupported"


WITHOUT = Means(try_lock=unsupported)


FAR = Holder(host="far", pid=7, boot="b9", user="someone", since="then", space=5, began=3)


def left_by(path: Path, holder: Holder, age: float = 0.0) -> None:
    """A lock whose holder has not renewed it for `age` seconds, by the clock of the file system."""
    path.write_bytes(msgspec.json.encode(holder))
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))


def age_of(path: Path) -> float:
    """Seconds since the last renewal."""
    probe = path.parent / "probe"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    return now - path.stat().st_mtime
