"""A run that is carried on: what had failed gets fresh tries, and services come back for it."""

from __future__ import annotations

from collections.abc import Iterable

from orch.bus import events as ev
from orch.state.graph import (
    IllegalTransition,
    forget_call,
    make_unknown,
    move,
    ripple,
    superiors,
)
from orch.state.law import ACTIVE, JobState
from orch.state.model import WORKFLOW, Job, State
from orch.state.rewind import checkpoint_above

S = JobState


def restarted(state: State, event: ev.Restarted) -> None:
    """The run is carried on."""
    if state.outcome == "succeeded":
        raise IllegalTransition(f"the run has {state.outcome}")
    state.outcome = state.abandoned = ""
    state.stopping = state.paused = state.cancelling = False
    state.restarts += 1
    state.restarted = event.seq
    state.rewinds = {}
    cancelled = list(state.jobs.where(lambda row: row.state is S.CANCELLED))
    skipped = list(state.jobs.where(lambda row: row.state is S.SKIPPED)) if state.services else []
    revived = [*(state.jobs[job] for job in state.failed), *cancelled]
    state.failed = {}
    for row in revived:
        _revive(state, row, event.time)
    ripple(state, revived, event.time)
    if state.services:
        restart_services(state, _hosts(state, [*revived, *skipped]), event.time)


def _hosts(state: State, revived: list[Job]) -> list[ev.JobId]:
    """The jobs below which some of these are, or whose services some of these use."""
    above = _all_above(state, revived)
    again = {row.id for row in revived}
    return [
        host
        for host, services in state.services.items()
        if host in above or any(not again.isdisjoint(state.jobs[service].users) for service in services)
    ]


def _all_above(state: State, rows: list[Job]) -> set[ev.JobId]:
    """The jobs below which these are, directly or not."""
    found: set[ev.JobId] = set()
    todo = list(rows)
    while todo:
        for superior, _ in superiors(state, todo.pop()):
            if superior.id not in found:
                found.add(superior.id)
                todo.append(superior)
    return found


def _revive(state: State, row: Job, time: str) -> None:
    """Fresh tries for a job, and for the checkpoints above it."""
    row.charged = row.free = 0
    row.reason = row.message = ""
    row.exit_code, row.signal = None, 0
    row.because = WORKFLOW
    if row.cache:
        forget_call(state, row)
    for above in checkpoint_above(state, row):
        above.charged = 0
    if row.state is S.CANCELLED and row.doomed:
        move(state, row, S.SKIPPED, time)
    else:
        move(state, row, S.WAITING if row.missing or row.form == "group" else S.READY, time)


def restart_services(state: State, hosts: Iterable[int], time: str) -> None:
    """Services of these jobs that had ended well are needed again by what was revived."""
    for host in hosts:
        row = state.row(host)
        again = [state.jobs[each] for each in state.services[host] if state.jobs[each].state is S.DONE]
        users = (state.jobs[user] for service in again for user in service.users)
        if row.state not in (S.SUCCEEDED, S.DONE) or not (row.unsettled or any(u.state in ACTIVE for u in users)):
            continue
        for service in again:
            service.opened = service.over = False
            service.missing = sum(not state.jobs[other].valued for other in (*service.needs, *service.parents))
            move(state, service, S.WAITING, time)
        todo: list[Job] = [*again, row]
        for service in again:
            make_unknown(state, service, todo, time)
        ripple(state, todo, time)
