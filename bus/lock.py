"""The run's polite lock: it tells a second leader at once that there is a first one, and who that is.

Safety does not depend on it: epochs fence (see `orch.bus.log`). Of two leaders that both believe they hold it, the one
that opened the log later has the run.

The file bears its holder's signature, and is a lease as well: its holder renews it every `RENEW` seconds. A kernel lock
(`flock`) is the first means. It is let go of when its holder dies, however it dies, and is close-on-exec, so that no
child keeps a dead leader's lock. But a shared file system may have no locks, or locks that each host knows for itself
only. So whoever gets the kernel's lock, or is told that there is none, reads the signature. A leader of this host that
is gone is known at once, one of another host by its lease, after `LEASE` seconds. `orch.bus.lease` has the rules.

Where the kernel has no lock, and for taking over, a new file with our signature is put in the place of the old one by a
rename. Of several that do so at once the last one wins: each looks a moment later whose signature is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from orch.bus.errors import LogTrouble, RunBusy
from orch.bus.lease import (
    Grip,
    Holder,
    Verdict,
    alive,
    busy_message,
    judge,
    same_host,
    server_time,
    temporary_name,
    this_process,
)

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_PROBES = 5
_PROBE_PAUSE = 0.002
"""Seconds. `holder` takes the lock for a moment; a leader that comes at that moment tries again."""

_SETTLE = 0.05
"""Seconds from putting a signature in place to looking whether it still is. Longer than from deciding to renaming."""


def try_lock(handle: int, kind: int) -> Grip:
    """Ask the kernel for a lock of a file, without waiting. Raises OSError."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return "refused"
    except OSError as e:
        if e.errno in _NO_LOCKS:
            return "unsupported"
        raise
    return "held"


@dataclasses.dataclass(frozen=True)
class Means:
    """What a lock asks of the kernel and of the file server. A test puts its own in their place. `pause`: seconds."""

    try_lock: Callable[[int, int], Grip] = try_lock
    server_time: Callable[[Path], float] = server_time
    alive: Callable[[Holder], bool] = alive
    pause: Callable[[float], None] = time.sleep


_REAL = Means()


class RunLock:
    """The lock in the file `path`, whose directory must exist. `me`: who signs; this process, if not given."""

    def __init__(self, path: Path, *, me: Callable[[], Holder] = this_process, means: Means = _REAL) -> None:
        self.path = path
        self._me = me
        self._means = means
        self._handle: int | None = None
        self._text = b""
        self._guard = threading.Lock()  # `renew` is called in a thread: the descriptor must not be closed under it

    def acquire(self, *, take_over: bool = False) -> None:
        """Take the lock, or fail at once; with `take_over`, take it from whoever has it.

        Raises RunBusy with the holder's host, pid and since when, and what to do; LogTrouble.
        """
        if self._handle is not None:
            return
        with self._trouble("take"):
            try:
                self._claim()
            except RunBusy:
                if not take_over:
                    raise
                self._replace()

    def renew(self) -> bool:
        """Say that we are alive: every RENEW seconds, in a thread. Is the lock still ours?

        False if it never was, or somebody has taken it over, or removed it: then nothing is renewed, and the fence of
        the log decides who leads. Raises LogTrouble if that could not be done now; the next time it may be.
        """
        with self._guard, self._trouble("renew"):
            if self._handle is None or self._there() != self._text:
                return False
            os.utime(self._handle)
            return True

    def release(self) -> None:
        """Let go of it. Again: does nothing. A lock that was taken over is left to the one who has it."""
        with self._guard:
            if self._handle is None:
                return
            handle, self._handle = self._handle, None
            with contextlib.suppress(OSError):  # a signature that stays is found to be a dead one's
                if os.pread(handle, 4096, 0) == self._text:
                    os.ftruncate(handle, 0)
            os.close(handle)

    def holder(self) -> Holder | None:
        """Who holds the lock now, this process included; None if it is free. Raises LogTrouble.

        Where nothing can be written, as in a read-only copy, the age of a lease is measured by this host's clock.
        """
        with self._trouble("look at"):
            try:
                handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                return self._look(handle)
            finally:
                os.close(handle)

    def _look(self, handle: int) -> Holder | None:
        grip = self._means.try_lock(handle, fcntl.LOCK_SH)
        holder, here = _signature(handle), self._me()
        if grip == "refused":
            return holder or Holder(host="?", pid=0)
        age = 0.0
        if holder is not None and not same_host(holder, here):
            try:
                age = self._age(handle)
            except OSError:
                age = time.time() - os.fstat(handle).st_mtime
        return holder if self._judge(holder, here, grip, age) == "busy" else None

    # Taking it ----------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """By the kernel's lock; where there is none, by a rename."""
        for _ in range(_PROBES):
            with contextlib.ExitStack() as stack:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, handle)
                grip = self._means.try_lock(handle, fcntl.LOCK_EX)
                if grip != "refused" and self._names(handle):
                    self._must_be_free(handle, grip)
                    if grip == "unsupported":
                        self._replace()
                    else:
                        self._text = self._sign(handle)
                        self._handle = handle
                        stack.pop_all()
                    return
            self._means.pause(_PROBE_PAUSE)
        self._say_busy()

    def _must_be_free(self, handle: int, grip: Grip) -> None:
        holder, here = _signature(handle), self._me()
        foreign = holder is not None and not same_host(holder, here)
        age = self._age(handle) if foreign else None
        if self._judge(holder, here, grip, age or 0.0) == "busy":
            raise RunBusy(busy_message(self._run, holder, grip, age))

    def _say_busy(self) -> None:
        """The kernel has refused. How long its holder has been silent is told if it can be found out."""
        with _opened(self.path) as handle:
            age = None
            with contextlib.suppress(OSError):
                age = self._age(handle)
            raise RunBusy(busy_message(self._run, _signature(handle), "refused", age))

    def _replace(self) -> None:
        """Put a file of our own in the place of what is there. Raises RunBusy if somebody does so too, after us."""
        temporary = self.path.parent / temporary_name()
        with contextlib.ExitStack() as stack:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, handle)
            stack.callback(temporary.unlink, missing_ok=True)
            self._means.try_lock(handle, fcntl.LOCK_EX)  # before it has its name: so nobody is faster
            text = self._sign(handle)
            temporary.rename(self.path)
            self._means.pause(_SETTLE)
            with _opened(self.path) as now:
                holder = _signature(now)
            if holder != msgspec.json.decode(text, type=Holder):
                raise RunBusy(busy_message(self._run, holder, "refused", None))
            self._handle, self._text = handle, text
            stack.pop_all()

    def _sign(self, handle: int) -> bytes:
        text = msgspec.json.encode(self._me()) + b"\n"
        os.pwrite(handle, text, 0)
        os.ftruncate(handle, len(text))
        os.utime(handle)  # the server's clock; and NFS sends what was written before it sets a time
        return text

    # Looking at it ------------------------------------------------------------------------------------------------

    @property
    def _run(self) -> str:
        return self.path.parent.name

    def _judge(self, holder: Holder | None, here: Holder, grip: Grip, age: float) -> Verdict:
        there = holder is not None and self._means.alive(holder)
        return judge(holder, here, grip, alive=there, age=age)

    def _age(self, handle: int) -> float:
        """Seconds since the last renewal, by the file server's clock."""
        return self._means.server_time(self.path.parent) - os.fstat(handle).st_mtime

    def _names(self, handle: int) -> bool:
        """Is what we have opened still what has the name? Who took over has put another file there."""
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _there(self) -> bytes:
        """What a host reads that comes now: opened anew, for NFS asks the server then."""
        try:
            with _opened(self.path) as handle:
                return os.pread(handle, 4096, 0)
        except FileNotFoundError:
            return b""

    @contextlib.contextmanager
    def _trouble(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            hint = "; whoever leads a run must be able to write there" if e.errno in _NOT_ALLOWED else ""
            raise LogTrouble(f"cannot {verb} the lock {self.path}: {e.strerror or e}{hint}") from e


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _signature(handle: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(handle, 4096, 0), type=Holder)
    except (OSError, ValueError):  # msgspec's own errors, and text that is not UTF-8
        return None
