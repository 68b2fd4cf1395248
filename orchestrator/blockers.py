"""What a job waits for, and what that waits for: up to what can move by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from orch.inspection import Graph, parents_of
from orch.state.law import DEAD, JobState
from orch.state.model import WORKFLOW, Job, State

S = JobState
LONGEST = 20
"""Links of a chain that are told."""


class Blocker(msgspec.Struct, frozen=True):
    """A job that another waits for, and what of it: "its value", "its body", "its end" …"""

    row: Job
    what: str


VALUE, BODY, BELOW, END, ATTEMPT = "its value", "its body", "all below it", "its end", "the end of its attempt"


class Blockers:
    """Finds them in one state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._graph = Graph(state)

    def of(self, row: Job) -> list[Blocker]:
        """What the job itself waits for: before it can run; or, once its body has run, before it is done."""
        return list(self._before_end(row) if row.state is S.SUCCEEDED else self._before_start(row))

    def chain(self, row: Job) -> Iterator[Blocker]:
        """What it waits for, what that waits for, and so on: at each step one that cannot come any more, if any."""
        seen: set[tuple[int, str]] = set()
        found = self.of(row)
        while found and len(seen) < LONGEST:
            chosen = next((one for one in found if one.row.state in DEAD or one.row.doomed), found[0])
            if (chosen.row.id, chosen.what) in seen:
                return
            seen.add((chosen.row.id, chosen.what))
            yield chosen
            found = list(self._before(chosen))

    def _before(self, blocker: Blocker) -> Iterator[Blocker]:
        """What a blocker waits for itself."""
        row = blocker.row
        if row.state is not S.SUCCEEDED:
            yield from self._before_start(row)
            return
        steps: dict[str, Callable[[Job], Iterator[Blocker]]] = {
            VALUE: self._before_value,
            BELOW: self._before_children,
            END: self._before_end,
        }
        if blocker.what in steps:
            yield from steps[blocker.what](row)

    def _before_start(self, row: Job) -> Iterator[Blocker]:
        if row.state is not S.WAITING:
            return
        if row.checkpoint and row.attempt:
            below = [self._state.jobs[job] for job in self._state.unwanted]
            yield from (Blocker(one, ATTEMPT) for one in below if one.unwanted == row.id)
        needed = [self._state.jobs[need] for need in (*row.needs, *(row.parents if row.serves >= 0 else ()))]
        yield from (Blocker(one, VALUE) for one in needed if not one.valued)
        if row.serves > WORKFLOW and self._state.jobs[row.serves].state is not S.SUCCEEDED:
            yield Blocker(self._state.jobs[row.serves], BODY)
        for parent in parents_of(row):
            yield from self._before_children_start(self._state.row(parent))
        followed = [self._state.row(job) for job in row.follows]
        yield from (Blocker(one, BELOW) for one in followed if not one.over)

    def _before_children_start(self, parent: Job) -> Iterator[Blocker]:
        if parent.opened:
            return
        if parent.state not in (S.SUCCEEDED, S.DONE):
            yield Blocker(parent, BODY)
        for service in self._state.services.get(parent.id, ()):
            if not self._state.jobs[service].valued:
                yield Blocker(self._state.jobs[service], VALUE)

    def _before_value(self, row: Job) -> Iterator[Blocker]:
        refs = [self._state.jobs[ref] for ref in dict.fromkeys(row.refs)]
        yield from (Blocker(one, VALUE) for one in refs if not one.valued)

    def _before_children(self, row: Job) -> Iterator[Blocker]:
        yield from self._unfinished(self._graph.children(row.id))

    def _before_end(self, row: Job) -> Iterator[Blocker]:
        yield from self._before_value(row)
        yield from self._unfinished([*self._graph.children(row.id), *self._graph.follow_ons(row.id)])
        yield from self._unfinished(self._graph.services(row.id))

    def _unfinished(self, jobs: list[str]) -> Iterator[Blocker]:
        rows = [self._state.jobs[int(job)] for job in jobs]
        yield from (Blocker(row, END) for row in rows if row.state is not S.DONE)
