"""What follows in the graph when a job becomes done, cannot become done any more, or may again.

All of it walks from the job that changed along `users`, with a list instead of recursion, and touches a job only when
one of its counts reaches or leaves zero: the cost is that of what changed.
"""

from __future__ import annotations

from orch.bus.events import JobId
from orch.state.law import TRANSITIONS, JobState
from orch.state.model import NONE, WORKFLOW, Job, State

S = JobState
READY = JobState.READY


class IllegalTransition(Exception):
    """An event that the law forbids: the log is not one that a leader has written."""


def move(state: State, job: Job, new: JobState, time: str) -> None:
    """Put `job` into state `new`, and keep the counts and indexes."""
    old = job.state
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"job {job.label} cannot go from {old} to {new}")
    counts = state.counts
    counts[old] -= 1
    counts[new] += 1
    if new is READY:
        state.ready[job.id] = None
    elif old is READY:
        del state.ready[job.id]
    job.state = new
    job.times[new] = time


def admit(state: State, job: Job, time: str) -> None:
    """A job has been committed, or may run again: it waits, is ready, or cannot be."""
    if state.cancelling:
        move(state, job, S.CANCELLED, time)
        doom(state, job, time)
    elif job.missing:
        move(state, job, S.WAITING, time)
        if job.doomed:
            move(state, job, S.SKIPPED, time)
            doom(state, job, time)
    else:
        move(state, job, S.READY, time)


def use(other: Job, job: Job) -> None:
    """`job` wants to know what becomes of `other`."""
    if other.users:
        other.users.append(job.id)
    else:
        other.users = [job.id]


def link(state: State, job: Job) -> None:
    """Enter a new job's needs into the graph."""
    for need in job.needs:
        other = state.jobs[need]
        use(other, job)
        if other.state is not S.DONE:
            job.missing += 1
            if is_dead(other):
                job.doomed += 1


def hold(state: State, job: Job, refs: list[JobId], time: str) -> None:
    """A body has left its value: the job is done when all that stands in the value is."""
    job.refs = refs
    for ref in dict.fromkeys(refs):
        other = state.jobs[ref]
        if other.state is not S.DONE:
            use(other, job)
            job.pending += 1
            if is_dead(other):
                job.doomed += 1
    if not job.pending:
        complete(state, job, time)
    elif job.doomed:
        doom(state, job, time)


def complete(state: State, job: Job, time: str) -> None:
    """`job` is done: free what waited for it, and so on upwards through values that only waited for this."""
    todo = [job]
    while todo:
        done = todo.pop()
        if done.alias:
            target = state.jobs[done.refs[0]]
            done.value_seq, done.refs, done.alias = target.value_seq, target.refs, False
        if done.id != WORKFLOW:
            move(state, done, S.DONE, time)
        for user in done.users:
            row = state.row(user)
            if row.state is S.SUCCEEDED:
                row.pending -= 1
                if not row.pending:
                    todo.append(row)
            else:
                row.missing -= 1
                if not row.missing and row.state is S.WAITING:
                    move(state, row, S.READY, time)
        done.users = NONE


def is_dead(job: Job) -> bool:
    """Can the job not become done any more (unless the run is restarted)?"""
    return job.state in (S.FAILED, S.CANCELLED, S.SKIPPED) or (job.state is S.SUCCEEDED and job.doomed > 0)


def doom(state: State, job: Job, time: str) -> None:
    """`job` cannot become done: skip what needs it, and what needs that."""
    cause = job.because or job.id
    todo = [job]
    while todo:
        for user in todo.pop().users:
            row = state.row(user)
            row.doomed += 1
            if row.doomed > 1:
                continue
            if row.state is S.WAITING:
                row.because = cause
                move(state, row, S.SKIPPED, time)
                todo.append(row)
            elif row.state is S.SUCCEEDED:
                row.because = cause
                todo.append(row)


def redeem(state: State, job: Job, time: str) -> None:
    """`job` may become done again: the reverse of `doom`."""
    todo = [job]
    while todo:
        for user in todo.pop().users:
            row = state.row(user)
            row.doomed -= 1
            if row.doomed:
                continue
            row.because = WORKFLOW
            if row.state is S.SKIPPED:
                move(state, row, S.WAITING, time)
                todo.append(row)
            elif row.state is S.SUCCEEDED:
                todo.append(row)
