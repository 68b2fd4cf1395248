"""What this host has."""

from __future__ import annotations

import os
import shutil

import msgspec

from orch.agent.devices import Device, discover


class Totals(msgspec.Struct, frozen=True):
    """Memory and disk in bytes. `trouble`: why there may be more devices than are known, for people."""

    cores: float
    memory: int
    disk: int
    devices: tuple[Device, ...] = ()
    trouble: str = ""


def host_totals(work_dir: str) -> Totals:
    """The cores that this process may use, physical memory or the cgroup's, the free space below, and devices."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        devices, trouble = discover(os.environ), ""
    except ValueError as error:
        devices, trouble = (), str(error)
    return Totals(
        cores=float(len(os.sched_getaffinity(0))),
        memory=min([memory, *_cgroup_limits()]),
        disk=shutil.disk_usage(work_dir).free,
        devices=devices,
        trouble=trouble,
    )


def _cgroup_limits() -> list[int]:
    """Memory limits of the cgroups that this process is in, version 2 and 1, as far as they can be seen."""
    found = []
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits("/sys/fs/cgroup", path, "memory.max")
        elif controllers == "memory":
            found += _limits("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return found


def _limits(mount: str, path: str, name: str) -> list[int]:
    """The limits of a cgroup and of those above it."""
    found = []
    while True:
        try:
            with open(f"{mount}{path.rstrip('/')}/{name}", encoding="ascii") as file:
                found.append(int(file.read()))
        except (OSError, ValueError):  # not there, or "max"
            pass
        if path in {"", "/"}:
            return found
        path = os.path.dirname(path)
