"""Events by which new jobs become part of a run: provisional first, and then all of an attempt at once."""

from __future__ import annotations

from sys import intern

from orch.bus import events as ev
from orch.state.graph import (
    IllegalTransition,
    connect,
    move,
    open_up,
)
from orch.state.law import JobState
from orch.state.model import NONE, SOME, Job, Made, State
from orch.state.queue import lane_of

S = JobState
ADDED, READY = S.ADDED, S.READY


def added(state: State, event: ev.Added) -> None:
    """A new job, provisional."""
    if event.job < state.next_job:
        raise IllegalTransition(f"job {event.job} comes after job {state.next_job - 1}")
    state.next_job = event.job + 1
    row = Job(
        event.job, intern(event.kind), event.name, event.seq, event.by, intern(event.form), event.needs or NONE,
        event.resources, event.retries, event.retry, event.checkpoint, event.priority, event.local, event.time,
    )  # fmt: skip
    if event.by:
        maker = state.jobs[event.by]
        row.inside = maker.id if maker.checkpoint else maker.inside
    if event.parents or event.follows or event.serves >= 0:
        row.parents, row.follows, row.serves = event.parents or NONE, event.follows or NONE, event.serves
    if event.cache or event.wanted.size:
        row.cache, row.surveys = event.cache, -1
    if row.local or row.form == "service":
        row.lane = lane_of(row)
    state.jobs[row.id] = row
    state.counts[ADDED] += 1
    made = state.provisional.get((event.by, event.attempt))
    if made is None:
        made = state.provisional[event.by, event.attempt] = Made()
    made.jobs.append(row.id)
    if event.serves >= 0:
        made.services.append(row.id)


def commit(state: State, maker: Job, attempt: int, count: int, time: str, todo: list[Job]) -> None:
    """The provisional jobs of an attempt become real; those from which something may follow are added to `todo`."""
    made = state.provisional.pop((maker.id, attempt), None) or Made()
    if len(made.jobs) != count:
        raise IllegalTransition(f"{count} new jobs are counted, {len(made.jobs)} were added")
    if not count:
        return
    maker.made_from, maker.made_to = made.jobs[0], made.jobs[0] + count
    if made.jobs[-1] != maker.made_to - 1:
        raise IllegalTransition(f"jobs {made.jobs[0]} to {made.jobs[-1]} are not {count} jobs")
    for service in made.services:
        state.services.setdefault(state.jobs[service].serves, []).append(service)
    if maker.id not in state.services:
        open_up(state, maker, todo)
    for position, job in enumerate(made.jobs):
        row = state.jobs[job]
        if row.needs or row.parents or row.follows or row.serves >= 0 or not maker.opened:
            connect(state, row)
        else:  # most are plain children of their maker
            maker.unsettled += 1
            maker.open += 1
        if _admit(state, row, time):
            todo.append(row)
        if not position % SOME:
            state.cool()


def _admit(state: State, row: Job, time: str) -> bool:
    """A job has been committed: it waits, or is ready. Does anything follow from that?"""
    if state.ending:
        move(state, row, S.CANCELLED, time)
    elif row.missing or row.form == "group":
        move(state, row, S.WAITING, time)
        return row.doomed > 0 or not row.missing
    else:
        state.counts[ADDED] -= 1
        state.counts[READY] += 1
        row.state, row.ready_at = READY, time
        state.ready.add(row)
        return False
    return True


def forget(state: State, attempt: tuple[int, int]) -> None:
    """The provisional jobs of an attempt that did not succeed never were."""
    made = state.provisional.pop(attempt, None)
    for job in made.jobs if made is not None else ():
        state.jobs.drop(job)
        state.counts[S.ADDED] -= 1
