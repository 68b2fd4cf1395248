"""A run in a few words: what `list` and `status` say of it, made from its state."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable

import msgspec

from orch.bus.events import JobId
from orch.state.law import JobState
from orch.state.model import Job, State

SHOWN = [state for state in JobState if state is not JobState.ADDED]


class LeaderInfo(msgspec.Struct, frozen=True):
    """The latest leader. `alive`: does it hold the run's lock; null where that cannot be known (a copied log)."""

    host: str
    pid: int
    since: str
    epoch: int
    alive: bool | None


class Summary(msgspec.Struct, frozen=True):
    """A run. Times are UTC, ISO 8601; empty where there is none. `counts`: jobs in each state.

    `seq` and `time` are those of the last event that counts here.
    """

    run: str
    name: str
    state: str
    seq: int
    time: str
    jobs_total: int
    counts: dict[str, int]
    started: str
    ended: str
    tags: dict[str, str]
    source: str
    adapter: str
    leader: LeaderInfo
    warnings: list[str]


def summarize(state: State, *, alive: bool | None) -> Summary:
    """The run in a few words."""
    created = state.created
    counts = {one.value: state.counts[one] for one in SHOWN}
    host, pid, since = state.leader
    return Summary(
        run=created.run if created else "",
        name=created.name if created else "",
        state=run_state(state, alive=alive),
        seq=state.seq,
        time=state.time,
        jobs_total=sum(counts.values()),
        counts=counts,
        started=created.time if created else "",
        ended=state.time if state.outcome else "",
        tags=created.tags if created else {},
        source=created.source if created else "",
        adapter=created.adapter if created else "",
        leader=LeaderInfo(host=host, pid=pid, since=since, epoch=state.epoch, alive=alive),
        warnings=state.warnings,
    )


def run_state(state: State, *, alive: bool | None) -> str:
    """One word for the run.

    With an outcome: succeeded, failed, cancelled. Else cancelling, stopping, paused or running while it is led, and
    stopped or interrupted (the leader went away without a word) when it is not.
    """
    if state.outcome:
        return state.outcome
    if state.closed or alive is False:
        return "stopped" if state.closed == "stopped" else "interrupted"
    if state.cancelling:
        return "cancelling"
    if state.stopping:
        return "stopping"
    if state.paused:
        return "paused"
    return "running" if state.planned else "starting"


def first_jobs(state: State, most: int) -> list[Job]:
    """The `most` jobs that a person wants to see, by number: what failed, is at work or comes next, then the others.

    Costs what is shown, what is live and what has failed, however many jobs there are.
    """
    wanted: set[JobId] = set()
    for ids in _interesting(state, most):
        wanted.update(itertools.islice(ids, most - len(wanted)))
        if len(wanted) >= most:
            break
    rest = (row.id for row in state.jobs.values() if row.state is not JobState.ADDED and row.id not in wanted)
    return [state.jobs[job] for job in sorted([*wanted, *itertools.islice(rest, most - len(wanted))])]


def _interesting(state: State, most: int) -> Iterable[Iterable[JobId]]:
    yield heapq.nsmallest(most, state.failed)
    for one in (JobState.RUNNING, JobState.QUEUED, JobState.SUBMITTING):
        yield heapq.nsmallest(most, (job for job in state.live if state.jobs[job].state is one))
    yield state.ready
    yield from (state.delayed, state.surveyed)
