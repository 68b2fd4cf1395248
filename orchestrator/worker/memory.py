"""Has the kernel killed something for want of memory, of what a batch system has given to this job?

Batch systems that bound memory do it by a control group, and there the kernel counts (Documentation/admin-guide,
cgroup-v2.rst, memory.events; cgroup-v1/memory.rst, memory.oom_control).
"""

from __future__ import annotations

_COUNT = "oom_kill "


def kills(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int:
    """How many processes of this one's control group and those below it were killed; 0 where that is not counted."""
    return max((_counted(path) for path in _files(proc, mount)), default=0)


def _files(proc: str, mount: str) -> list[str]:
    found = []
    for line in _lines(proc):
        _, controllers, path = line.split(":", 2)
        if path == "/":  # that is nobody's own
            continue
        if not controllers:
            found.append(f"{mount}{path}/memory.events")
        elif "memory" in controllers.split(","):
            found.append(f"{mount}/memory{path}/memory.oom_control")
    return found


def _counted(path: str) -> int:
    for line in _lines(path):
        number = line.removeprefix(_COUNT)
        if number != line and number.isdecimal():
            return int(number)
    return 0


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
