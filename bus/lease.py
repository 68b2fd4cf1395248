"""Who holds a lock, how long without a word, and whether that one still counts. Decides, takes nothing.

The lease is the lock file's mtime. The file server alone sets it and says what time it is now (utime(2) without a time,
SET_TO_SERVER_TIME in RFC 1813, NFS), so that the clocks of two hosts are never compared. Some file systems take the
clock of the host that asks (Lustre, Gluster): there, the hosts' clocks must agree to within a few seconds.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

import msgspec

from orch.bus.identity import utc_now, whoami

RENEW = 5.0
"""Seconds between two renewals."""

LEASE = 30.0
"""Seconds without a renewal after which a leader on another host counts as dead."""

Grip = Literal["held", "refused", "unsupported"]
"""What became of the attempt to get the kernel's lock (`flock`)."""

Verdict = Literal["free", "busy", "dead"]
"""Nobody holds the lock; somebody does; somebody did who can be counted out."""


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process that holds a lock.

    `since`  UTC, ISO 8601
    `space`  inode of its pid namespace: two containers with one hostname are two hosts; 0 if not known
    `began`  clock ticks from boot to its start: a pid that is used again is another process; 0 if not known
    """

    host: str
    pid: int
    boot: str = ""
    since: str = ""
    user: str = ""
    space: int = 0
    began: int = 0


def this_process() -> Holder:
    """What this process signs with, now."""
    who = whoami()
    began = _stat(who.pid)[1]
    return Holder(who.host, who.pid, who.boot, utc_now(), who.user, _pid_namespace(), began)


def judge(holder: Holder | None, here: Holder, grip: Grip, *, alive: bool, age: float) -> Verdict:
    """May `here` have the lock that bears the signature `holder`?

    `alive`  is there such a process here? It counts if the holder is of this host, and the kernel has no locks
    `age`    seconds since the last renewal. It counts if the holder is of another host: the kernel's lock may be known
             to each host for itself only. An age below -LEASE counts as old: the server's clock was set back, and the
             lease must not live until the clock is there again. A leader that is alive renews it within RENEW seconds.
    """
    if grip == "refused":
        return "busy"
    if holder is None:
        return "free"
    if not same_host(holder, here):
        return "busy" if -LEASE <= age < LEASE else "dead"
    if grip == "held" or _rebooted(holder, here):
        return "dead"
    return "busy" if alive else "dead"


def same_host(holder: Holder, here: Holder) -> bool:
    """Can `here` see for itself whether the process `holder` is there?"""
    return holder.host == here.host and (holder.space == here.space or 0 in (holder.space, here.space))


def alive(holder: Holder) -> bool:
    """Is there such a process on this host? One that cannot be looked at is taken to be alive."""
    if holder.pid <= 0:
        return False
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    state, began = _stat(holder.pid)
    return state not in ("Z", "X") and (0 in (began, holder.began) or began == holder.began)


def server_time(directory: Path) -> float:
    """The time by the clock of the file server, in seconds: the mtime of a file made for that. Raises OSError."""
    probe = directory / temporary_name()
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.utime(handle)
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)


def temporary_name() -> str:
    """A name that begins as those do that stores clean up after a crash."""
    return f".orch-tmp-{os.getpid()}-{os.urandom(8).hex()}"


def busy_message(run: str, holder: Holder | None, grip: Grip, age: float | None) -> str:
    """Who leads the run, and what can be done about it. `age`: of the lease, None if it does not matter."""
    if holder is None:
        return f"the run {run} has a live leader (it has not said who it is)"
    user = f" of user {holder.user}" if holder.user else ""
    text = f"process {holder.pid} on {holder.host}{user}, since {holder.since}"
    if grip == "refused":
        silent = f"it has been silent for {age:.0f} s: " if age is not None and age >= LEASE else ""
        return f"the run {run} has a live leader: {text}; {silent}if it hangs, take over with --take-over"
    if age is None:
        return f"the run {run} has a live leader: {text}"
    left = max(1, math.ceil(LEASE - age))
    return (
        f"the run {run} seems to have a live leader: {text}; unless renewed, its lease ends in {left} s: try again "
        "then, or, if that leader is known to be dead, take over with --take-over"
    )


def _rebooted(holder: Holder, here: Holder) -> bool:
    return bool(holder.boot and here.boot) and holder.boot != here.boot


def _stat(pid: int) -> tuple[str, int]:
    """State and start of a process: fields 3 and 22 of proc_pid_stat(5); ("", 0) if they cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
