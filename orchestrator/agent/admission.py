"""Which attempt starts next: pure bookkeeping, and never more promised than there is.

Within a run the highest priority comes first, then the oldest; where that does not fit, another may pass it. Between
runs, turns. What has been passed for `PATIENCE` seconds is held a place: from then on, nothing passes it but

- what has a higher priority in the same run,
- what fits beside it: when all else that runs now has ended, there is room for both,
- what has a wall time, and ends before the one that was passed could start, as far as wall times tell.

So it starts at the latest when everything that runs at that moment has ended.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from orch.adapters.contract import Capacity, fits
from orch.agent.devices import Device, choose, counted, shown
from orch.agent.model import Line, Run, Shape, Task
from orch.agent.totals import Totals
from orch.bus.events import Resources
from orch.sizes import format_size

PATIENCE = 30.0
STAY = 0.2
"""Seconds for which a run keeps its turn for warm workers: they serve one run, and others would have to be started."""

MOST_HOLDERS = 3
"""Other runs, and services of each, that are named to who waits for room."""

_TINY = 1e-9


class Admission:
    """The queues of all runs and what is in use.

    `room_in_pool(run, shape)` says whether a warm worker of that shape would take one more ahead; that costs nothing.
    """

    def __init__(self, totals: Totals, room_in_pool: Callable[[Run, Shape], bool]) -> None:
        self.totals = totals
        self.cores = 0.0
        self.memory = 0
        self.disk = 0
        self.free = set(totals.devices)
        self._queued = 0
        self._wanted: dict[float, int] = {}  # how many of those that wait ask for so many cores
        self._room_in_pool = room_in_pool
        self._turns: deque[Run] = deque()
        self._turn: tuple[Run | None, float] = None, 0.0  # whose it is, and since when
        self._passed: dict[tuple[Run, Line], float] = {}
        self._inherited: deque[Task] = deque()
        self._ends: dict[Task, float] = {}  # when each that has a promise is over at the latest, by its wall time
        self._held: tuple[Run, Line] | None = None
        self._beside: dict[Task, None] = {}  # let in since then, because there is room beside it
        self._lasting: list[Task] = []

    @property
    def waiting(self) -> int:
        """How many attempts wait."""
        return self._queued + len(self._inherited)

    def limits(self, run: Run) -> Totals:
        """What a run may use at once."""
        info, totals = run.info, self.totals
        if info is None or not (info.cores or info.memory or info.disk):
            return totals
        return Totals(
            cores=min(totals.cores, info.cores or totals.cores),
            memory=min(totals.memory, info.memory or totals.memory),
            disk=min(totals.disk, info.disk or totals.disk),
            devices=totals.devices,
            trouble=totals.trouble,
        )

    # Queues ---------------------------------------------------------------------------------------------------

    def add(self, task: Task, *, first: bool = False) -> None:
        """Queue an attempt; `first`: before all others of its line, since it had its turn already."""
        run = task.run
        queue = run.queues.get(task.line)
        if queue is None:
            queue = run.queues[task.line] = deque()
        if first:
            queue.appendleft(task)
        else:
            queue.append(task)
        if run.waiting == 0:
            self._turns.append(run)
        run.waiting += 1
        self._queued += 1
        self._wanted[task.shape.cores] = self._wanted.get(task.shape.cores, 0) + 1

    def inherit(self, task: Task, now: float) -> None:
        """An attempt takes the place of one that has just released it, unless a place is held for another."""
        if self._starved(now) is not None or not self.fits(task.run, task.shape):
            self.add(task, first=True)
        else:
            self.reserve(task, now)
            self._inherited.append(task)

    def remove(self, task: Task) -> None:
        """Take an attempt out of the queue again."""
        if task in self._inherited:
            self._inherited.remove(task)
            self.release(task)
            return
        queue = task.run.queues[task.line]
        queue.remove(task)
        self._removed(task, queue)

    def _removed(self, task: Task, queue: deque[Task]) -> None:
        if not queue:
            del task.run.queues[task.line]
            self._passed.pop((task.run, task.line), None)
        self._queued -= 1
        self._wanted[task.shape.cores] -= 1
        if not self._wanted[task.shape.cores]:
            del self._wanted[task.shape.cores]
        task.run.waiting -= 1
        if task.run.waiting == 0:
            self._turns.remove(task.run)

    def others_wait(self, run: Run) -> bool:
        """Does another run have attempts waiting?"""
        return self._queued > run.waiting

    # Whose turn it is -----------------------------------------------------------------------------------------

    def next(self, now: float) -> Task | None:
        """The attempt that is to start now, with its resources reserved unless it goes ahead into a warm worker."""
        if self._inherited:
            return self._inherited.popleft()
        held = self._starved(now)
        if held is not None and self.fits(held[0], held[1].shape):
            return self._start(*held, now)
        if self._is_full():
            return None
        begins = self._begins(*held) if held is not None else 0.0
        passed: list[tuple[Run, Line]] = []
        for _ in range(len(self._turns)):
            run = self._turns[0]
            self._turns.rotate(-1)
            found = self._next_of(run, held, begins, passed, now)
            if found is not None:
                for each in passed:
                    self._passed.setdefault(each, now)
                self._consider_staying(run, found, now)
                return found
        return None

    def _consider_staying(self, run: Run, found: Task, now: float) -> None:
        if self._turn[0] is not run:
            self._turn = (run, now)
        if found.shape.pool and run.waiting and now - self._turn[1] < STAY:
            self._turns.rotate(1)

    def _is_full(self) -> bool:
        """Is there too little left for any that waits? Then none of many runs need be looked at."""
        return len(self._turns) > 1 and min(self._wanted) > self.totals.cores - self.cores + _TINY

    def _next_of(
        self, run: Run, held: tuple[Run, Line] | None, begins: float, passed: list[tuple[Run, Line]], now: float
    ) -> Task | None:
        """`begins`: when what a place is held for can start at the latest."""
        for line in _in_order(run):
            if not self.fits(run, line.shape):
                if line.shape.pool and held is None and self._goes_ahead(run, line.shape):
                    return self._take(run, line)
            elif held is None or self._does_no_harm(held, run, line) or 0 < line.walltime <= begins - now:
                return self._start(run, line, now)
            elif self._fits_beside(held, run, line.shape):
                task = self._start(run, line, now)
                self._beside[task] = None
                return task
            passed.append((run, line))
        return None

    def _goes_ahead(self, run: Run, shape: Shape) -> bool:
        return not self.others_wait(run) and self._room_in_pool(run, shape)

    def _start(self, run: Run, line: Line, now: float) -> Task:
        task = self._take(run, line)
        self.reserve(task, now)
        return task

    def _take(self, run: Run, line: Line) -> Task:
        queue = run.queues[line]
        task = queue.popleft()
        self._passed.pop((run, line), None)
        self._removed(task, queue)
        return task

    # Places that are held -------------------------------------------------------------------------------------

    def _starved(self, now: float) -> tuple[Run, Line] | None:
        """What has been passed for too long, by others of its run or of other runs."""
        found = None
        for each, since in self._passed.items():
            if now - since > PATIENCE and self._comes(*each):
                found = each
                break
        if found != self._held:
            self._held = found
            self._beside.clear()
        return found

    def _comes(self, run: Run, line: Line) -> bool:
        """Can it start once all that comes to an end has ended?"""
        return not self.short(run, line.shape) and (
            not self._lasting or self._fits_with(self._lasting, run, line.shape)
        )

    def _does_no_harm(self, held: tuple[Run, Line], run: Run, line: Line) -> bool:
        """Does it come first anyway, or take nothing that the one waits for for which a place is held?"""
        if run is held[0]:
            return line.priority > held[1].priority
        return self._fits_host(held[1].shape)  # that waits for its own run's limits

    def _begins(self, run: Run, line: Line) -> float:
        """When this one can start at the latest, by wall times; 0 if they do not tell."""
        left = dict(self._ends)
        for task, end in sorted(self._ends.items(), key=lambda each: each[1]):
            del left[task]
            if self._fits_with(left, run, line.shape):
                return end if end < math.inf else 0.0
        return 0.0

    def _fits_beside(self, held: tuple[Run, Line], run: Run, shape: Shape) -> bool:
        """Is there room for it and the one that has been passed, once all else has ended?"""
        own = [held[1].shape, *([shape] if run is held[0] else [])]
        return self._fits_with(self._beside, held[0], *own) and self._enough(self._beside, held[1].shape, shape)

    def _fits_with(self, running: Iterable[Task], run: Run, *shapes: Shape) -> bool:
        """Is there room for these of a run, on the host and within its limits, when nothing runs but that?"""
        running = list(running)
        limits = self.limits(run)
        own = [task.shape for task in running if task.run is run]
        return (
            self._enough(running, *shapes)
            and sum(each.cores for each in (*own, *shapes)) <= limits.cores + _TINY
            and sum(each.memory for each in (*own, *shapes)) <= limits.memory
            and sum(each.disk for each in (*own, *shapes)) <= limits.disk
        )

    def _enough(self, running: Iterable[Task], *shapes: Shape) -> bool:
        running = list(running)
        every = [*shapes, *(task.shape for task in running)]
        taken = {device for task in running for device in task.devices}
        wanted = [each for shape in shapes for each in shape.accelerators]
        return (
            sum(each.cores for each in every) <= self.totals.cores + _TINY
            and sum(each.memory for each in every) <= self.totals.memory
            and sum(each.disk for each in every) <= self.totals.disk
            and (not wanted or choose(set(self.totals.devices) - taken, wanted) is not None)
        )

    # Runs that wait for each other ----------------------------------------------------------------------------

    def held_by(self, run: Run) -> list[Task]:
        """The attempts of a run that have a promise."""
        return [task for task in self._ends if task.run is run]

    def expect_no_end_of(self, runs: Sequence[Run]) -> None:
        """No place is held for what would need room that these have: what runs of them is there to stay."""
        self._lasting = [task for task in self._ends if task.run in runs] if runs else []

    def to_give_way(self, runs: Sequence[Run]) -> Run | None:
        """Which of these has to go so that another can go on: none, if one can as soon as all other runs have ended.

        `runs`: the oldest first, of which only services run. One by one they are thought away, the youngest first,
        until something that waits has room; the last of these made the difference.
        """
        for count in range(len(runs), 0, -1):
            left = runs[:count]
            running = [task for task in self._ends if task.run in left]
            if any(self._fits_with(running, run, line.shape) for run in left for line in run.queues):
                return runs[count] if count < len(runs) else None
        return None

    # What there is --------------------------------------------------------------------------------------------

    def short(self, run: Run, shape: Shape) -> str:
        """What is short until the run's limits change; empty if attempts of this shape can be given their place."""
        return fits(_asked(shape), _capacity(self.limits(run)))

    def never(self, shape: Shape) -> str:
        """What is short for good, since this host does not have it. Limits of a run may be raised again."""
        return fits(_asked(shape), self.everything)

    @functools.cached_property
    def everything(self) -> Capacity:
        """What this host has."""
        return _capacity(self.totals)

    def fits(self, run: Run, shape: Shape) -> bool:
        """Is there room now, on the host and within what the run may use?"""
        if not self._fits_host(shape):
            return False
        limits = self.limits(run)
        return (
            run.cores + shape.cores <= limits.cores + _TINY
            and run.memory + shape.memory <= limits.memory
            and run.disk + shape.disk <= limits.disk
        )

    def _fits_host(self, shape: Shape) -> bool:
        return (
            self.cores + shape.cores <= self.totals.cores + _TINY
            and self.memory + shape.memory <= self.totals.memory
            and self.disk + shape.disk <= self.totals.disk
            and (not shape.accelerators or choose(self.free, shape.accelerators) is not None)
        )

    def waits_for(self, run: Run, shape: Shape) -> str:
        """What is short at the moment, for people."""
        limits = self.limits(run)
        limited = self.short(run, shape)
        if limited and not self.never(shape):
            return f"the limits of its run to be raised (orch set): {limited}"
        found = []
        free = min(self.totals.cores - self.cores, limits.cores - run.cores)
        if shape.cores > free + _TINY:
            found.append(f"cores: {shape.cores:g} wanted, {max(free, 0):g} of {limits.cores:g} free")
        room = min(self.totals.memory - self.memory, limits.memory - run.memory)
        if shape.memory > room:
            found.append(f"memory: {_wanted(shape.memory, room, limits.memory)}")
        space = min(self.totals.disk - self.disk, limits.disk - run.disk)
        if shape.disk > space:
            found.append(f"disk: {_wanted(shape.disk, space, limits.disk)}")
        if shape.accelerators and choose(self.free, shape.accelerators) is None:
            there = f"{shown(counted(self.free))} of {shown(counted(self.totals.devices))} free"
            found.append(f"accelerators: {shown(shape.accelerators)} wanted, {there}")
        return "; ".join([*found, *(() if self._fits_host(shape) else self._holders(run))])

    def _holders(self, run: Run) -> Iterator[str]:
        """What other runs hold, those with the most cores first: for people, the first few."""
        tasks: dict[str, list[Task]] = {}
        for task in self._ends:
            if task.run is not run:
                tasks.setdefault(task.run.name, []).append(task)
        held = sorted(tasks.items(), key=lambda item: -sum(task.shape.cores for task in item[1]))
        for name, own in held[:MOST_HOLDERS]:
            cores = sum(task.shape.cores for task in own)
            sizes = (("memory", sum(t.shape.memory for t in own)), ("disk", sum(t.shape.disk for t in own)))
            parts = [f"{cores:g} cores", *(f"{format_size(size)} of {what}" for what, size in sizes if size)]
            devices = [device for task in own for device in task.devices]
            parts += [shown(counted(devices))] if devices else []
            yield f"run {name} holds {', '.join(parts)}{_for_services(own)}"
        if len(held) > MOST_HOLDERS:
            yield f"{len(held) - MOST_HOLDERS} more runs hold some"

    # Promises -------------------------------------------------------------------------------------------------

    def reserve(self, task: Task, now: float) -> None:
        """Promise an attempt what it asks for."""
        self._change(task, 1)
        task.devices = self._devices(task)
        self.free.difference_update(task.devices)
        self._ends[task] = now + (task.attempt.resources.walltime or math.inf)
        task.reserved = True

    def _devices(self, task: Task) -> tuple[Device, ...]:
        if not task.shape.accelerators:
            return ()
        found = choose(self.free, task.shape.accelerators)
        assert found is not None, "nothing is reserved that does not fit"
        return found

    def release(self, task: Task) -> None:
        """Take a promise back."""
        if task.reserved:
            self._change(task, -1)
            self.free.update(task.devices)
            self._ends.pop(task, None)
            self._beside.pop(task, None)
            task.devices = ()
            task.reserved = False

    def hand_on(self, task: Task, following: Task, now: float) -> None:
        """The promise is now one to another attempt of the same shape and run."""
        if task.reserved:
            following.reserved, task.reserved = True, False
            following.devices, task.devices = task.devices, ()
            self._ends.pop(task, None)
            self._ends[following] = now + (following.attempt.resources.walltime or math.inf)
            if task in self._beside:
                del self._beside[task]
                self._beside[following] = None

    def _change(self, task: Task, sign: int) -> None:
        shape, run = task.shape, task.run
        self.cores += sign * shape.cores
        self.memory += sign * shape.memory
        self.disk += sign * shape.disk
        run.cores += sign * shape.cores
        run.memory += sign * shape.memory
        run.disk += sign * shape.disk


def _in_order(run: Run) -> list[Line]:
    """The lines of a run as they come to their turn."""
    queues = run.queues
    if len(queues) < 2:
        return list(queues)
    return sorted(queues, key=lambda line: (-line.priority, queues[line][0].queued_at))


def _asked(shape: Shape) -> Resources:
    return Resources(shape.cores, shape.memory, shape.disk, accelerators=shape.accelerators)


def _capacity(totals: Totals) -> Capacity:
    devices = counted(totals.devices)
    return Capacity(totals.cores, totals.memory, totals.disk, accelerators=devices, trouble=totals.trouble)


def _for_services(tasks: list[Task]) -> str:
    """Whose places these are, if only services have them, which keep them."""
    if any(task.up is None for task in tasks):
        return ""
    names = [f"{task.attempt.name or task.attempt.kind} [{task.attempt.job}]" for task in tasks]
    more = f" and {len(names) - MOST_HOLDERS} more" if len(names) > MOST_HOLDERS else ""
    return f" for services: {', '.join(names[:MOST_HOLDERS])}{more}"


def _wanted(wanted: int, free: int, of: int) -> str:
    return f"{format_size(wanted)} wanted, {format_size(max(free, 0))} of {format_size(of)} free"
