"""What the attempts of a run used, asked for and wasted: by kind of job, and by worker. Pure.

Read off the log while it is folded. Each attempt that has ended is a row in columns of numbers, so that exact medians
of a million attempts cost some hundred megabytes, and not a gigabyte.
"""

from __future__ import annotations

import itertools
import math
import operator
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from orch.attempt import Reason
from orch.bus import events as ev
from orch.state.fold import apply
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.status import seconds_since

MEASURES = ("time", "cpu", "wait", "memory", "disk")
"""What is measured of an attempt; fields of `Group`."""

SURVEYED = "SURVEYED"
"""In place of a reason: the attempt was a survey, and ended well."""

SURVEY_CORES = 0.1
_UNKNOWN = math.nan


class Spread(msgspec.Struct, frozen=True):
    """A measure over those attempts of which it is known: `count` of them. Seconds or bytes."""

    count: int = 0
    min: float = 0.0
    median: float = 0.0
    mean: float = 0.0
    max: float = 0.0
    total: float = 0.0


class Cost(msgspec.Struct, frozen=True):
    """Core-seconds; memory and disk in bytes, added up over attempts."""

    core_seconds: float = 0.0
    memory: float = 0.0
    disk: float = 0.0


class Waste(msgspec.Struct, frozen=True):
    """What was paid for nothing.

    `attempts`, `core_seconds`: attempts that did not succeed, or whose success was dropped by a checkpoint, and the
    cores that they held. `idle_core_seconds`: of the others, cores held and not used. `memory`, `disk`: asked for and
    not used, in bytes, added up over attempts.
    """

    attempts: int = 0
    core_seconds: float = 0.0
    idle_core_seconds: float = 0.0
    memory: float = 0.0
    disk: float = 0.0


class Group(msgspec.Struct, frozen=True):
    """Attempts of one kind of job, on one worker, or of the whole run.

    `jobs`  of a kind and of the run: all that there are; of a worker: those that had an attempt there
    `ends`  how many attempts ended for each reason; SURVEYED: surveys that ended well
    `time` is wall time, `cpu` user and system time, `wait` the time from ready to running: in seconds. `memory`
    (peak) and `disk` in bytes
    `asked`, `used`  `asked.memory` is only of attempts whose peak is known, so that the two can be compared; likewise
    `asked.disk`
    """

    name: str
    jobs: int
    attempts: int
    ends: dict[str, int]
    time: Spread
    cpu: Spread
    wait: Spread
    memory: Spread
    disk: Spread
    asked: Cost
    used: Cost
    wasted: Waste


class Statistics(msgspec.Struct, frozen=True):
    """Of a run: all of it, by kind of job, and by worker (a host; or a warm worker on it, by its process)."""

    run: str
    live: int
    total: Group
    kinds: list[Group]
    workers: list[Group]


def statistics(events: Iterable[ev.Event]) -> Statistics:
    """Of the run whose log is `events`, from its beginning. Raises `IllegalTransition`."""
    state, table = State(), Table()
    for event in events:
        if isinstance(event, ENDS):
            row = state.jobs.get(event.job)
            if row is not None and event.attempt:
                table.add(row, event)  # before it is folded: what the next attempt asks for may differ
        apply(state, event)
    return table.summary(state)


ENDS = (ev.Succeeded, ev.Retrying, ev.Failed, ev.Cancelled, ev.Surveyed)
_GOOD = (Reason.FINISHED.value, SURVEYED)


class Names:
    """Texts by small numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Of this text, from now on."""
        return self._numbers.setdefault(name, len(self._numbers))

    def all(self) -> list[str]:
        """In the order of their numbers."""
        return list(self._numbers)


class Table:
    """A row for each attempt that has ended. What is not known is "not a number"."""

    def __init__(self) -> None:
        self.kinds, self.workers, self.ends = Names(), Names(), Names()
        self.job = array("q")
        self.kind, self.worker, self.end = array("i"), array("i"), array("i")
        self.measured = {measure: array("d") for measure in MEASURES}
        self.held = array("d")  # core-seconds
        self.memory, self.disk = array("d"), array("d")  # asked for, where it is known what was used
        self._delays: dict[int, float] = {}  # seconds of back-off before the next attempt

    def add(self, row: Job, event: Any) -> None:
        """The live attempt of `row` ends by `event`."""
        asked, usage = row.resources, event.usage
        surveyed = isinstance(event, ev.Surveyed)
        cores, memory, disk = (SURVEY_CORES, 0, 0) if row.survey else (asked.cores, asked.memory, asked.disk)
        waited = _waited(row, event, self._delays.pop(row.id, 0.0))
        self.job.append(row.id)
        self.kind.append(self.kinds.number(row.kind))
        self.worker.append(self.workers.number(worker_name(row)))
        self.end.append(self.ends.number(SURVEYED if surveyed else _reason(event)))
        values = (usage.wall, usage.user + usage.system, waited, usage.memory or _UNKNOWN)
        for measure, value in zip(MEASURES, (*values, usage.disk or _UNKNOWN), strict=True):
            self.measured[measure].append(value)
        self.held.append(cores * usage.wall)
        self.memory.append(memory if usage.memory else _UNKNOWN)
        self.disk.append(disk if usage.disk else _UNKNOWN)
        if isinstance(event, ev.Retrying) and event.wait:
            self._delays[row.id] = event.wait

    def summary(self, state: State) -> Statistics:
        """What it all comes to. `state` is that after the last event."""
        rows = [row for row in state.jobs.values() if row.state is not JobState.ADDED]
        kinds: dict[str, int] = defaultdict(int)
        for row in rows:
            kinds[row.kind] += 1
        by_kind, by_worker = self._positions(self.kind, self.kinds), self._positions(self.worker, self.workers)
        derived = Derived(self, {row.id for row in rows if row.state is JobState.DROPPED})

        def group(name: str, positions: Sequence[int], jobs: int) -> Group:
            return self._group(name, positions, jobs, derived)

        return Statistics(
            run=state.created.run if state.created else "",
            live=len(state.live),
            total=group("", range(len(self.job)), len(rows)),
            kinds=[group(kind, by_kind.get(kind, ()), kinds[kind]) for kind in sorted(kinds)],
            workers=[
                group(name, by_worker[name], len({self.job[n] for n in by_worker[name]})) for name in sorted(by_worker)
            ],
        )

    @staticmethod
    def _positions(column: array[int], names: Names) -> dict[str, array[int]]:
        """The rows in which a column has each of its names."""
        found = [array("q") for _ in names.all()]
        for position, number in enumerate(column):
            found[number].append(position)
        return dict(zip(names.all(), found, strict=True))

    def _group(self, name: str, positions: Sequence[int], jobs: int, derived: Derived) -> Group:
        def of(column: array[Any]) -> Iterator[Any]:
            return map(column.__getitem__, positions)

        names = self.ends.all()
        ends = {names[end]: count for end, count in Counter(of(self.end)).items()}
        return Group(
            name=name,
            jobs=jobs,
            attempts=len(positions),
            ends=dict(sorted(ends.items())),
            **{measure: spread(of(column)) for measure, column in self.measured.items()},
            asked=Cost(_sum(of(self.held)), _sum(of(self.memory)), _sum(of(self.disk))),
            used=Cost(*(_sum(of(self.measured[measure])) for measure in ("cpu", "memory", "disk"))),
            wasted=Waste(
                sum(of(derived.lost)),
                *map(_sum, map(of, (derived.lost_time, derived.idle, derived.memory, derived.disk))),
            ),
        )


class Derived:
    """What follows from a table, once all is known. `lost`: the attempt was in vain (0 or 1)."""

    def __init__(self, table: Table, dropped: set[int]) -> None:
        names = table.ends.all()
        bad = {number for number, name in enumerate(names) if name not in _GOOD}
        measured = table.measured
        self.lost = array("b", (end in bad or job in dropped for end, job in zip(table.end, table.job, strict=True)))
        self.lost_time = array("d", map(operator.mul, table.held, self.lost))
        idle = map(_at_least_none, map(operator.sub, table.held, measured["cpu"]))
        self.idle = array("d", (0.0 if lost else time for time, lost in zip(idle, self.lost, strict=True)))
        self.memory = array("d", map(_at_least_none, map(operator.sub, table.memory, measured["memory"])))
        self.disk = array("d", map(_at_least_none, map(operator.sub, table.disk, measured["disk"])))


def _at_least_none(amount: float) -> float:
    """0 for what is less; what is not known stays so."""
    return 0.0 if amount < 0 else amount


def spread(values: Iterable[float]) -> Spread:
    """Of those values that are numbers."""
    known = sorted(_known(values))
    if not known:
        return Spread()
    half, odd = divmod(len(known), 2)
    total = math.fsum(known)
    return Spread(
        count=len(known),
        min=known[0],
        median=known[half] if odd else (known[half - 1] + known[half]) / 2,
        mean=total / len(known),
        max=known[-1],
        total=total,
    )


def worker_name(row: Job) -> str:
    """Where the live attempt runs: a host, and of a warm worker its process; empty if that was never heard."""
    return f"{row.host}, worker {row.pid}" if row.form == "pool" and row.host and row.pid else row.host


def sorted_groups(groups: Iterable[Group], field: str) -> list[Group]:
    """By name; or by jobs, attempts, what they wasted of cores, or the total of a measure: the largest first."""
    if field == "name":
        return sorted(groups, key=lambda group: group.name)
    return sorted(groups, key=lambda group: (-SORTS[field](group), group.name))


SORTS: dict[str, Callable[[Group], float]] = {
    "jobs": lambda group: group.jobs,
    "attempts": lambda group: group.attempts,
    "time": lambda group: group.time.total,
    "cpu": lambda group: group.cpu.total,
    "wait": lambda group: group.wait.total,
    "memory": lambda group: group.memory.max,
    "disk": lambda group: group.disk.max,
    "wasted": lambda group: group.wasted.core_seconds + group.wasted.idle_core_seconds,
}
"""What groups can be sorted by, besides their names."""


def _reason(event: Any) -> str:
    if isinstance(event, ev.Succeeded):
        return Reason.FINISHED.value
    return Reason.KILLED.value if isinstance(event, ev.Cancelled) else str(event.reason)


def _waited(row: Job, event: Any, delay: float) -> float:
    """Seconds from ready to running, without back-off. One not seen running began so long before its end as it ran."""
    ready, running = row.times.get(JobState.READY), row.times.get(JobState.RUNNING)
    if not ready:
        return _UNKNOWN
    between = seconds_since(ready, running) if running else seconds_since(ready, event.time) - event.usage.wall
    return max(0.0, between - delay)


def _sum(values: Iterable[float]) -> float:
    """Of those values that are numbers."""
    return math.fsum(_known(values))


def _known(values: Iterable[float]) -> Iterator[float]:
    return itertools.filterfalse(math.isnan, values)
