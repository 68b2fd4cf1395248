"""The few Linux calls that Python does not have, and the boot id."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_MADV_COLLAPSE = 25

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_prctl = ctypes.CDLL(None).prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong]  # fixed, and no errno: a fresh fork copies 60 pages less
_KILL = int(signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends (prctl(2), PR_SET_PDEATHSIG).

    `parent` is the pid that it was forked by: if that is gone already, this process ends here.
    """
    _prctl(_PR_SET_PDEATHSIG, _KILL)  # cannot fail: it is a valid one
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # known since Linux 3.4, and cannot fail


def punch_hole(descriptor: int, start: int, length: int) -> None:
    """Give a file's blocks in a range back to the disk; its size stays (fallocate(2)). Raises `OSError`."""
    if _libc.fallocate(descriptor, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, start, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def memory(address: int, length: int) -> memoryview:
    """This process's own memory, to be written over."""
    return memoryview((ctypes.c_char * length).from_address(address)).cast("B")


def memory_at(address: int, length: int) -> bytes:
    """This process's own memory."""
    return ctypes.string_at(address, length)


def boot_id() -> str:
    """Differs after every start of the machine; empty where it cannot be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def into_large_pages(address: int, length: int) -> bool:
    """Have memory moved into large pages (madvise(2), MADV_COLLAPSE); False where the kernel does not (before 6.1)."""
    return bool(_libc.madvise(address, length, _MADV_COLLAPSE) == 0)
