"""Jobs that are ready, in the order in which they are to be handed over."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orch.bus.events import JobId

if TYPE_CHECKING:
    from orch.state.model import Job

LANES = ("service", "preemptible service", "local", "job")
"""Which limits hold for a job. Each lane has its own, and none of them hides what is behind it in another."""

SPARE = 4096
"""Places at the front of a line that are let be before it is made shorter."""


def lane_of(row: Job) -> str:
    """The lane of a job."""
    if row.form == "service":
        return "preemptible service" if row.resources.preemptible else "service"
    return "local" if row.local else "job"


class Line:
    """First come, first served: eight bytes a job, and nothing that grows with the line but its length.

    A job that is taken out of the middle leaves its place behind, to be passed over.
    """

    def __init__(self, jobs: Iterable[JobId] = ()) -> None:
        self._places = array("q", jobs)
        self._first = 0
        self._left: dict[JobId, int] = {}  # how many places of a job, the first ones, are left behind

    def add(self, job: JobId) -> None:
        """A job that is not in it comes last."""
        self._places.append(job)

    def discard(self, job: JobId) -> bool:
        """Take out a job that is in it. Was it the last one?"""
        places = self._places
        if places[self._first] == job and not self._left:
            self._first += 1
            if self._first > SPARE and self._first > len(places) / 2:
                del places[: self._first]
                self._first = 0
        elif places[-1] == job:  # its last place is the one that counts
            places.pop()
            self._pass()
        else:
            self._left[job] = self._left.get(job, 0) + 1
            self._pass()
        return self._first == len(places)  # the first place is never one that was left behind

    def _pass(self) -> None:
        """No place that was left behind is the first one."""
        places, left = self._places, self._left
        while left and self._first < len(places) and places[self._first] in left:
            job = places[self._first]
            self._first += 1
            left[job] -= 1
            if not left[job]:
                del left[job]

    def take(self, most: int) -> list[JobId]:
        """The first ones, which stay."""
        if not self._left:
            return self._places[self._first : self._first + most].tolist()
        return list(itertools.islice(self, most))

    def __iter__(self) -> Iterator[JobId]:
        passed: dict[JobId, int] = {}
        for place in range(self._first, len(self._places)):
            job = self._places[place]
            if passed.get(job, 0) < self._left.get(job, 0):
                passed[job] = passed.get(job, 0) + 1
            else:
                yield job

    def __len__(self) -> int:
        return len(self._places) - self._first - sum(self._left.values())

    def __bool__(self) -> bool:
        return self._first < len(self._places)


class Queue:
    """By priority, and within one priority services before others, else first come first served."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, str], Line] = {}

    def add(self, row: Job) -> None:
        """Put a job that is not in it at the end of its line."""
        key = (row.priority, row.lane)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line()
        line.add(row.id)

    def discard(self, row: Job) -> None:
        """Take out a job that is in it."""
        key = (row.priority, row.lane)
        if self._lines[key].discard(row.id):
            del self._lines[key]

    def lines(self) -> list[tuple[int, str, bytes]]:
        """All that is in it: of each line priority, lane, and the numbers of the jobs in eight bytes each."""
        return [(*key, array("q", line).tobytes()) for key, line in self._lines.items()]

    @classmethod
    def of(cls, lines: Iterable[tuple[int, str, bytes]]) -> Queue:
        """The queue that has these `lines`."""
        queue = cls()
        for priority, lane, jobs in lines:
            queue._lines[priority, lane] = Line(memoryview(jobs).cast("q"))
        return queue

    def take(self, room: int, rooms: dict[str, int]) -> list[JobId]:
        """The first `room` jobs, with no more of each lane than `rooms` says (what it does not name is not bounded)."""
        found: list[JobId] = []
        for key in self._order():
            most = min(room - len(found), rooms.get(key[1], room))
            if most > 0:
                taken = self._lines[key].take(most)
                if key[1] in rooms:
                    rooms[key[1]] -= len(taken)
                found += taken
        return found

    def _order(self) -> list[tuple[int, str]]:
        if len(self._lines) < 2:
            return list(self._lines)
        return sorted(self._lines, key=lambda key: (-key[0], LANES.index(key[1])))

    def __iter__(self) -> Iterator[JobId]:
        for key in self._order():
            yield from self._lines[key]

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)
