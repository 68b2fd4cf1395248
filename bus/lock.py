"""The run's polite lock: it tells a second leader at once that there is a first one, and who that is.

Safety does not depend on it (see `orch.bus.log`): where a file system has no locks it is simply always free. A kernel
lock (`flock`) is let go of when its holder dies, however it dies; the descriptor is close-on-exec, so that no child
process keeps a dead leader's lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from orch.bus.errors import LogTrouble, RunBusy
from orch.bus.identity import Identity, utc_now, whoami

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_PROBES = 5
_PROBE_PAUSE = 0.002
"""Seconds. `holder` takes the lock for a moment; a leader that comes at that moment tries again."""


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds a lock, and since when (UTC, ISO 8601)."""

    host: str
    pid: int
    boot: str = ""
    since: str = ""
    user: str = ""


class RunLock:
    """The lock in the file `path`, whose directory must exist."""

    def __init__(
        self,
        path: Path,
        *,
        identity: Identity | None = None,
        clock: Callable[[], str] = utc_now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self._identity = identity
        self._clock = clock
        self._pause = pause
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock, or fail at once. Raises RunBusy with the holder's host, pid and since when, LogTrouble."""
        if self._handle is not None:
            return
        handle = self._open(os.O_RDWR | os.O_CREAT)
        try:
            self._lock(handle)
            self._sign(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def release(self) -> None:
        """Let go of it. Again: does nothing."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with contextlib.suppress(OSError):  # the signature is a courtesy
            os.ftruncate(handle, 0)
        os.close(handle)

    def holder(self) -> Holder | None:
        """Who holds the lock now, this process included; None if it is free. Raises LogTrouble."""
        try:
            handle = self._open(os.O_RDONLY)
        except LogTrouble as e:
            if isinstance(e.__cause__, FileNotFoundError):
                return None
            raise
        try:
            if _try(handle, fcntl.LOCK_SH):
                return None
            return _signature(handle) or Holder(host="?", pid=0)
        finally:
            os.close(handle)

    def _open(self, flags: int) -> int:
        try:
            return os.open(self.path, flags | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise LogTrouble(f"cannot open the lock {self.path}: {e.strerror}") from e

    def _lock(self, handle: int) -> None:
        for _ in range(_PROBES):
            if _try(handle, fcntl.LOCK_EX):
                return
            holder = _signature(handle)
            if holder is not None and not _is_dead(holder):
                break
            self._pause(_PROBE_PAUSE)
        raise RunBusy(self._busy(_signature(handle)))

    def _busy(self, holder: Holder | None) -> str:
        run = self.path.parent.name
        if holder is None:
            return f"the run {run} has a live leader (it has not said who it is); lock: {self.path}"
        return (
            f"the run {run} has a live leader: process {holder.pid} on {holder.host}"
            f"{f' of user {holder.user}' if holder.user else ''}, since {holder.since}"
        )

    def _sign(self, handle: int) -> None:
        who = self._identity or whoami()
        text = msgspec.json.encode(Holder(who.host, who.pid, who.boot, self._clock(), who.user))
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, text + b"\n", 0)
        except OSError as e:
            raise LogTrouble(f"cannot write the lock {self.path}: {e.strerror}") from e


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        if e.errno in _NO_LOCKS:
            return True
        raise LogTrouble(f"cannot lock: {e.strerror}") from e
    return True


def _signature(handle: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(handle, 4096, 0), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def _is_dead(holder: Holder) -> bool:
    """Is it certain that the signature is a leftover of a process that is no more?"""
    here = whoami()
    if holder.host != here.host:
        return False
    if holder.boot != here.boot:
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
