"""How the jobs of a run hang together: `run.graph`, and `orch.replay(…).graph`. Reads a state, and changes nothing.

Jobs are named by their ids, as in `orch.replay`. What a checkpoint has dropped is not part of the graph any more.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias

from orch.bus.events import JobId
from orch.errors import NoSuchJob
from orch.state.law import JobState
from orch.state.model import WORKFLOW, Job, State

_BODY, _VALUE, _CHILDREN, _DONE = range(4)
"""What becomes of a job, in this order: its body has run, its value is known, its children and all is over."""

_Step: TypeAlias = tuple[JobId, int]


def parents_of(row: Job) -> list[JobId]:
    """The jobs whose child it is: those named, else its maker (0: the workflow function); none of a service."""
    if row.serves >= 0:
        return []
    return row.parents if row.parents or row.follows else [row.by]


def counts(row: Job) -> bool:
    """Is the job part of the graph?"""
    return row.state not in (JobState.ADDED, JobState.DROPPED)


class Graph:
    """The graph of a run as it stood when this was made. Raises `NoSuchJob` for what it does not have.

    A job may be given as text or as a number; 0 is the workflow function, which is in no list.
    """

    def __init__(self, state: State) -> None:
        self._rows = {row.id: row for row in state.jobs.values() if counts(row)}
        self._children: dict[JobId, list[JobId]] = defaultdict(list)
        self._follow_ons: dict[JobId, list[JobId]] = defaultdict(list)
        self._services: dict[JobId, list[JobId]] = defaultdict(list)
        for row in self._rows.values():
            for parent in parents_of(row):
                self._children[parent].append(row.id)
            for followed in row.follows:
                self._follow_ons[followed].append(row.id)
            if row.serves >= 0:
                self._services[row.serves].append(row.id)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """All jobs, in the order of their numbers."""
        return map(str, sorted(self._rows))

    def predecessors(self, job: str | int) -> list[str]:
        """The jobs that it comes after: those whose values it takes, its parents, those that it is a follow-on of.

        Of a service: the job that it is for, and the services that must be up first.
        """
        number = self._known(job)
        return [] if number == WORKFLOW else _texts(self._before(self._rows[number]))

    def children(self, job: str | int) -> list[str]:
        """Its children: also the jobs that it made and gave no other place. They run after its body."""
        return _texts(self._children.get(self._known(job), []))

    def follow_ons(self, job: str | int) -> list[str]:
        """Its follow-ons, which run after its children and everything below those."""
        return _texts(self._follow_ons.get(self._known(job), []))

    def services(self, job: str | int) -> list[str]:
        """Its services, which are there for its successors."""
        return _texts(self._services.get(self._known(job), []))

    @property
    def roots(self) -> list[str]:
        """The jobs that come after none."""
        return _texts([row.id for row in self._rows.values() if not self._before(row)])

    def order(self) -> list[str]:
        """All jobs in an order in which they can run, one after the other; low numbers first where there is a choice.

        A job comes after its predecessors, after what stands in the values that it takes, and a follow-on after the
        children of what it follows and all below those.
        """
        return [str(job) for job, what in self._steps() if what == _BODY]

    # Inside -----------------------------------------------------------------------------------------------------------

    def _known(self, job: str | int) -> JobId:
        try:
            number = int(job)
        except ValueError:
            number = -1
        if number != WORKFLOW and number not in self._rows:
            raise NoSuchJob(f"the run has no job {job!r}")
        return number

    def _before(self, row: Job) -> list[JobId]:
        jobs = [*row.needs, *(row.parents if row.serves >= 0 else parents_of(row)), *row.follows]
        if row.serves >= 0:
            jobs.append(row.serves)
        return [job for job in dict.fromkeys(jobs) if job in self._rows]

    def _steps(self) -> Iterator[_Step]:
        """All that becomes of all jobs, in an order in which it can."""
        after: dict[_Step, list[_Step]] = defaultdict(list)
        missing: dict[_Step, int] = {(job, what): 0 for job in self._rows for what in (_BODY, _VALUE, _CHILDREN, _DONE)}
        for first, then in self._rules():
            if first in missing and then in missing:  # the workflow function is not in the graph
                after[first].append(then)
                missing[then] += 1
        free = [step for step, count in missing.items() if not count]
        heapq.heapify(free)
        while free:
            step = heapq.heappop(free)
            yield step
            for then in after[step]:
                missing[then] -= 1
                if not missing[then]:
                    heapq.heappush(free, then)

    def _rules(self) -> Iterator[tuple[_Step, _Step]]:
        """Pairs of what comes first and what after it."""
        for job, row in self._rows.items():
            yield (job, _BODY), (job, _VALUE)
            yield (job, _BODY), (job, _CHILDREN)
            yield (job, _CHILDREN), (job, _DONE)
            for ref in row.refs:
                yield (ref, _VALUE), (job, _VALUE)
            for need in row.needs:
                yield (need, _VALUE), (job, _BODY)
            for parent in parents_of(row):
                yield (parent, _BODY), (job, _BODY)
                yield (job, _DONE), (parent, _CHILDREN)
                for service in self._services.get(parent, ()):
                    yield (service, _BODY), (job, _BODY)
            for followed in row.follows:
                yield (followed, _CHILDREN), (job, _BODY)
                yield (job, _DONE), (followed, _DONE)
            if row.serves >= 0:
                yield (row.serves, _BODY), (job, _BODY)
                for service in row.parents:
                    yield (service, _BODY), (job, _BODY)


def _texts(jobs: list[JobId]) -> list[str]:
    return [str(job) for job in jobs]
