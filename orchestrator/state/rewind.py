"""Checkpoints that run again: what is below them is dropped, and what of it is live is ended first."""

from __future__ import annotations

from collections.abc import Iterator

from orch.bus.events import JobId
from orch.state import keeping
from orch.state.graph import VALUELESS, IllegalTransition, move
from orch.state.law import JobState
from orch.state.model import NONE, WORKFLOW, Job, State

S = JobState


def checkpoint_above(state: State, job: Job) -> Iterator[Job]:
    """The checkpoints by whose attempts (or by what those made) a job was made, the nearest first."""
    while job.inside != WORKFLOW:
        job = state.jobs[job.inside]
        if job.state is S.SUCCEEDED:
            yield job


def rewind(state: State, checkpoint: Job, time: str) -> list[Job]:
    """Drop all below a checkpoint, and make it run again; those from which something may follow."""
    if checkpoint.state is not S.SUCCEEDED or not checkpoint.checkpoint:
        raise IllegalTransition(f"job {checkpoint.label} is no checkpoint whose body has run")
    live = [row for row in map(state.jobs.__getitem__, state.live) if _is_below(state, row, checkpoint.id)]
    for row in live:
        row.unwanted = checkpoint.id
        state.unwanted[row.id] = None
        state.stale.pop(row.id, None)
    for row in _made(state, checkpoint):
        if row.id not in state.live and row.state is not S.DROPPED:
            _cut(state, row, time)
    _forget_successors(state, checkpoint)
    checkpoint.charged += 1
    gone = [service for service in map(state.jobs.__getitem__, checkpoint.needs) if not service.valued]
    checkpoint.missing = len(live) + len(gone)
    checkpoint.doomed = sum(bool(service.told & VALUELESS) for service in gone)
    move(state, checkpoint, S.WAITING if checkpoint.missing else S.READY, time)
    return [checkpoint]


def _made(state: State, checkpoint: Job) -> Iterator[Job]:
    """What its latest attempt has made, and what those have made, and so on."""
    todo = [checkpoint]
    while todo:
        row = todo.pop()
        for job in row.made:
            below = state.jobs[job]
            yield below
            if below.made_to:
                todo.append(below)


def _is_below(state: State, job: Job, checkpoint: JobId) -> bool:
    inside = job.inside
    while inside not in (WORKFLOW, checkpoint):
        inside = state.jobs[inside].inside
    return inside == checkpoint


def _cut(state: State, row: Job, time: str) -> None:
    """Drop a job that is not live. Nobody is told: all around it is dropped as well."""
    move(state, row, S.DROPPED, time)
    state.failed.pop(row.id, None)
    state.rewinds.pop(row.id, None)
    keeping.forget(state, row.id)
    _forget_successors(state, row)
    row.users = row.holders = NONE


def _forget_successors(state: State, row: Job) -> None:
    row.children = row.followers = NONE
    row.open = row.unsettled = row.serving = row.hurt = row.lame = row.barred = 0
    row.opened = row.over = False
    row.missing = row.doomed = row.pending = 0
    row.because = WORKFLOW
    if not row.valued:
        row.refs, row.alias = NONE, False
    state.services.pop(row.id, None)
    state.idle.pop(row.id, None)


def drop(state: State, row: Job, todo: list[Job], time: str) -> None:
    """A live attempt below a checkpoint has ended: its job is dropped, and the checkpoint may go on."""
    checkpoint = state.jobs[row.unwanted]
    del state.unwanted[row.id]
    _cut(state, row, time)
    row.unwanted = 0
    checkpoint.missing -= 1
    if not checkpoint.missing and checkpoint.state is S.WAITING:
        todo.append(checkpoint)
