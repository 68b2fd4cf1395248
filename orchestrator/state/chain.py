"""Chains: jobs that run one after the other in the same place, handed over together.

A link is intended while the one before it is live. Its intention is void, and it waits again, as soon as that one ends
in any other way than well, or has made jobs of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from orch.bus.events import Resources, Submitting, Succeeded
from orch.state.graph import IllegalTransition, move
from orch.state.law import JobState
from orch.state.model import Job, State

S = JobState

MOST = 64
"""Links that are intended at once: what follows is handed over when these are done."""


def links(state: State, first: Job) -> Iterator[Job]:
    """The jobs that can run in the place of `first`, which is about to be submitted, one after the other."""
    if first.survey:
        return
    job = first
    for _ in range(MOST):
        following = _successor(state, job)
        if following is None or not _fits(following, first):
            return
        yield following
        job = following


def _successor(state: State, job: Job) -> Job | None:
    """The only job that waits for this one, and for nothing else."""
    if job.checkpoint or job.form == "service" or job.id in state.services or job.holders or job.unwanted:
        return None
    waiting = job.users or job.children
    if len(waiting) != 1 or (job.users and job.children and job.users != job.children) or job.followers:
        return None
    row = state.jobs[waiting[0]]
    before = {*row.needs, *row.parents}
    if row.state is not S.WAITING or before != {job.id} or row.follows or row.serves >= 0:
        return None
    return row


def _fits(row: Job, first: Job) -> bool:
    """Does it fit into the place of the first link, as it is?"""
    plain = not (row.survey or row.checkpoint or row.form in ("service", "group")) and row.priority == first.priority
    return plain and row.local == first.local and _within(row.resources, first.resources)


def _within(wanted: Resources, given: Resources) -> bool:
    return (
        wanted.cores <= given.cores
        and (wanted.memory <= given.memory if given.memory and wanted.memory else wanted.memory == given.memory)
        and wanted.disk <= given.disk
        and (wanted.walltime <= given.walltime if given.walltime and wanted.walltime else not given.walltime)
        and wanted.accelerators == given.accelerators
        and wanted.preemptible == given.preemptible
        and (wanted.queue, wanted.backend) == (given.queue, given.backend)
    )


def join(state: State, row: Job, event: Submitting) -> None:
    """A link is intended, in the place of a job that is live. Raises `IllegalTransition`."""
    before = state.jobs[event.after]
    if before.id not in state.live or before.link or before.id not in (*row.needs, *row.parents):
        raise IllegalTransition(f"job {row.label} cannot run in the place of job {before.label}")
    before.link, row.after = row.id, before.id
    state.links += 1


def leave(state: State, row: Job) -> None:
    """A live attempt is over, or takes its turn: it does not stand behind another any more."""
    if row.after:
        state.jobs[row.after].link = 0
        row.after = 0
        state.links -= 1
    else:
        state.lanes[row.lane] -= 1


def take_turn(state: State, row: Job) -> None:
    """The link before `row` has ended well, and this one runs in its place."""
    leave(state, row)
    state.lanes[row.lane] += 1


def go_on(state: State, row: Job, todo: list[Job], event: Succeeded) -> None:
    """`row` has ended well: what follows in its place takes its turn, unless something must be done first."""
    if event.added:
        void(state, row, todo, event.time)
    else:
        take_turn(state, state.jobs[row.link])


def void(state: State, row: Job, todo: list[Job], time: str) -> None:
    """`row` did not end as its chain needs it: what was to follow in its place waits again."""
    while row.link:
        before, row = row, state.jobs[row.link]
        if row.unwanted:  # it is ended for itself, and dropped then
            take_turn(state, row)
            return
        if row.state is S.RUNNING:  # nobody but a batch system that lies has begun it already
            take_turn(state, row)
            state.stale[row.id] = before.id
            return
        leave(state, row)
        del state.live[row.id]
        move(state, row, S.CANCELLED if state.ending else S.WAITING, time)
        todo.append(row)
