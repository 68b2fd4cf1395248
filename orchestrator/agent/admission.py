"""Which attempt starts next: pure bookkeeping, and never more promised than there is.

Within a run the oldest comes first; where it does not fit, a younger one of another shape may. Between runs, turns.
So that small ones do not keep a large one out for ever, nothing else starts once a large one has been passed over for
`PATIENCE` seconds.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable

import msgspec

from orch.agent.model import Run, Shape, Task

PATIENCE = 30.0
_TINY = 1e-9


class Totals(msgspec.Struct, frozen=True):
    """What this host has. Memory and disk in bytes."""

    cores: float
    memory: int
    disk: int


def host_totals(work_dir: str) -> Totals:
    """The cores that this process may use, physical memory or the cgroup's, and the work directory's free space."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Totals(
        cores=float(len(os.sched_getaffinity(0))),
        memory=min([memory, *_cgroup_limits()]),
        disk=shutil.disk_usage(work_dir).free,
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


class Admission:
    """The queues of all runs and what is in use.

    `room_in_pool(run, shape)` says whether a warm worker of that shape would take one more ahead; that costs nothing.
    """

    def __init__(self, totals: Totals, room_in_pool: Callable[[Run, Shape], bool]) -> None:
        self.totals = totals
        self.cores = 0.0
        self.memory = 0
        self.disk = 0
        self.waiting = 0
        self._room_in_pool = room_in_pool
        self._turns: deque[Run] = deque()
        self._passed: dict[tuple[Run, Shape], float] = {}

    def limits(self, run: Run) -> Totals:
        """What a run may use at once."""
        info = run.info
        cores = min(self.totals.cores, info.cores or self.totals.cores) if info else self.totals.cores
        memory = min(self.totals.memory, info.memory or self.totals.memory) if info else self.totals.memory
        return Totals(cores=cores, memory=memory, disk=self.totals.disk)

    def add(self, task: Task, *, first: bool = False) -> None:
        """Queue an attempt; `first`: before all others of its shape, since it had its turn already."""
        run = task.run
        queue = run.queues.get(task.shape)
        if queue is None:
            queue = run.queues[task.shape] = deque()
        if first:
            queue.appendleft(task)
        else:
            queue.append(task)
        if run.waiting == 0:
            self._turns.append(run)
        run.waiting += 1
        self.waiting += 1

    def remove(self, task: Task) -> None:
        """Take an attempt out of the queue again."""
        queue = task.run.queues[task.shape]
        queue.remove(task)
        self._removed(task, queue)

    def _removed(self, task: Task, queue: deque[Task]) -> None:
        if not queue:
            del task.run.queues[task.shape]
            self._passed.pop((task.run, task.shape), None)
        self.waiting -= 1
        task.run.waiting -= 1
        if task.run.waiting == 0:
            self._turns.remove(task.run)

    def others_wait(self, run: Run) -> bool:
        """Does another run have attempts waiting?"""
        return self.waiting > run.waiting

    def next(self, now: float) -> Task | None:
        """The attempt that is to start now, with its resources reserved unless it goes ahead into a warm worker."""
        starved = self._starved(now)
        if starved is not None and self.fits(*starved):
            return self._start(*starved)
        if starved is not None and not self._fits_host(starved[1]):
            return None
        held = starved[0] if starved is not None else None  # by its own limits: others may go on
        passed: list[tuple[Run, Shape]] = []
        for _ in range(len(self._turns)):
            run = self._turns[0]
            self._turns.rotate(-1)
            found = self._next_of(run, passed) if run is not held else None
            if found is not None:
                for each in passed:
                    self._passed.setdefault(each, now)
                return found
        return None

    def _starved(self, now: float) -> tuple[Run, Shape] | None:
        """What has been passed over for too long, by others of its run or of other runs."""
        for each, since in self._passed.items():
            if now - since > PATIENCE and not self.short(*each):
                return each
        return None

    def _next_of(self, run: Run, passed: list[tuple[Run, Shape]]) -> Task | None:
        queues = run.queues
        order = list(queues) if len(queues) < 2 else sorted(queues, key=lambda shape: queues[shape][0].queued_at)
        for shape in order:
            if self.fits(run, shape):
                return self._start(run, shape)
            if shape.pool and not self.others_wait(run) and self._room_in_pool(run, shape):
                return self._take(run, shape)
            passed.append((run, shape))
        return None

    def _start(self, run: Run, shape: Shape) -> Task:
        task = self._take(run, shape)
        self.reserve(task)
        return task

    def _take(self, run: Run, shape: Shape) -> Task:
        queue = run.queues[shape]
        task = queue.popleft()
        self._passed.pop((run, shape), None)
        self._removed(task, queue)
        return task

    def short(self, run: Run, shape: Shape) -> str:
        """What is short for good; empty if attempts of this shape can be given their place."""
        limits = self.limits(run)
        found = []
        if shape.cores > limits.cores + _TINY:
            found.append(f"cores: wanted {shape.cores:g}, available {limits.cores:g}")
        if shape.memory > limits.memory:
            found.append(f"memory: wanted {shape.memory} bytes, available {limits.memory}")
        if shape.disk > limits.disk:
            found.append(f"disk: wanted {shape.disk} bytes, available {limits.disk}")
        return "; ".join(found)

    def fits(self, run: Run, shape: Shape) -> bool:
        """Is there room now, on the host and within what the run may use?"""
        if not self._fits_host(shape):
            return False
        limits = self.limits(run)
        return run.cores + shape.cores <= limits.cores + _TINY and run.memory + shape.memory <= limits.memory

    def _fits_host(self, shape: Shape) -> bool:
        return (
            self.cores + shape.cores <= self.totals.cores + _TINY
            and self.memory + shape.memory <= self.totals.memory
            and self.disk + shape.disk <= self.totals.disk
        )

    def waits_for(self, run: Run, shape: Shape) -> str:
        """What is short at the moment, for people."""
        limits = self.limits(run)
        found = []
        free = min(self.totals.cores - self.cores, limits.cores - run.cores)
        if shape.cores > free + _TINY:
            found.append(f"cores: {shape.cores:g} wanted, {max(free, 0):g} of {limits.cores:g} free")
        room = min(self.totals.memory - self.memory, limits.memory - run.memory)
        if shape.memory > room:
            found.append(f"memory: {shape.memory} bytes wanted, {max(room, 0)} of {limits.memory} free")
        space = self.totals.disk - self.disk
        if shape.disk > space:
            found.append(f"disk: {shape.disk} bytes wanted, {max(space, 0)} of {limits.disk} free")
        return "; ".join(found)

    def reserve(self, task: Task) -> None:
        """Promise an attempt what it asks for."""
        self._change(task, 1)
        task.reserved = True

    def release(self, task: Task) -> None:
        """Take a promise back."""
        if task.reserved:
            self._change(task, -1)
            task.reserved = False

    def _change(self, task: Task, sign: int) -> None:
        shape, run = task.shape, task.run
        self.cores += sign * shape.cores
        self.memory += sign * shape.memory
        self.disk += sign * shape.disk
        run.cores += sign * shape.cores
        run.memory += sign * shape.memory
