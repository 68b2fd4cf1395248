"""What /proc tells of processes, and how those of an attempt are found and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from orch.agent.tags import NAME

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_PREFIX = f"{NAME}=".encode()


def _read(path: str) -> bytes:
    """The contents; empty if the process is gone or not ours to look at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while data := os.read(descriptor, 65536):
            parts.append(data)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def own_children() -> list[int]:
    """Children of this single-threaded process, zombies among them."""
    pid = os.getpid()
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def children(pid: int) -> list[int]:
    """Children of any process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        found.extend(int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def tree(pid: int) -> list[int]:
    """A process and all that descends from it, as far as parents are alive."""
    found = [pid]
    for each in found:
        found.extend(children(each))
    return found


def tag(pid: int) -> str:
    """The mark of a process; empty if it has none, is gone, or is not ours to look at."""
    for item in _read(f"/proc/{pid}/environ").split(b"\0"):
        if item.startswith(_PREFIX):
            return item[len(_PREFIX) :].decode("utf-8", "replace")
    return ""


def has_no_environment(pid: int) -> bool:
    """Does it show none: cleared, dead, or about to execute a program?"""
    return not _read(f"/proc/{pid}/environ")


def is_zombie(pid: int) -> bool:
    """Is it dead, or gone?"""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return not fields or fields[0] in {b"Z", b"X"}


def is_stopped(pid: int) -> bool:
    """Was it stopped by a signal?"""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return bool(fields) and fields[0] == b"T"


def anonymous_memory(pid: int) -> int:
    """Resident anonymous memory in bytes: an upper bound of what is private. 0 if the process is gone."""
    fields = _read(f"/proc/{pid}/statm").split()
    return (int(fields[1]) - int(fields[2])) * _PAGE if len(fields) > 2 else 0


def resident_memory(pid: int) -> int:
    """All resident memory in bytes, shared or not. 0 if the process is gone."""
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def private_memory(pid: int) -> int:
    """Memory in bytes that only this process uses, swapped out or not. Exact, and dear: the kernel walks all pages."""
    total = 0
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        name, _, rest = line.partition(b":")
        if name in {b"Private_Clean", b"Private_Dirty", b"Swap"}:
            total += int(rest.split()[0]) * 1024
    return total


def marked(prefix: str) -> list[int]:
    """All processes of this host, but this one, whose mark begins with `prefix`."""
    own = os.getpid()
    found = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in found if pid != own and tag(pid).startswith(prefix)]


def end_marked(prefix: str, patience: float = 10.0) -> list[int]:
    """Kill every process whose mark begins with `prefix`, and wait until they have ended.

    Those that have not after `patience` seconds (a hung disk, mostly) are returned.
    """
    until = time.monotonic() + patience
    while (found := marked(prefix)) and time.monotonic() < until:
        held = [descriptor for pid in found if (descriptor := _kill_if_marked(pid, prefix)) is not None]
        for descriptor in held:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)  # readable once the process has ended (pidfd_open(2))
            poll.poll(max(0.0, until - time.monotonic()) * 1000)
            os.close(descriptor)
    return found


def _kill_if_marked(pid: int, prefix: str) -> int | None:
    """Kill one; a pidfd that holds it.

    The mark is read again once the pidfd is there, so that a pid which was given to another process is never hit.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if tag(pid).startswith(prefix):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            return descriptor
    except (ProcessLookupError, PermissionError):
        pass
    os.close(descriptor)
    return None


def kill_if_started_about(pid: int, since: float) -> bool:
    """Kill process `pid` if it started in the seconds before `since` (seconds since the machine's start).

    For a program that has cleared its environment, and the mark with it.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        began = int(fields[19]) / _TICKS if len(fields) > 19 else 0.0  # starttime, field 22 of proc(5)
        if not since - 10 < began < since + 0.1:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)


def terminate(pids: list[int]) -> None:
    """SIGTERM to processes that were there a moment ago. Not there any more: fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def kill_child(pid: int) -> None:
    """SIGKILL to a child that has not been waited for: its pid is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
