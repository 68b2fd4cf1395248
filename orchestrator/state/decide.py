"""The decisions of the leader: from the state to what to do next. Pure.

`decide` looks only at indexes of the state (`ready`, `live`, counts), never at all jobs.
"""

from __future__ import annotations

import itertools

import msgspec

from orch.bus.events import JobId
from orch.state.law import JobState
from orch.state.model import State


class Limits(msgspec.Struct, frozen=True):
    """What the adapter offers: attempts that fit at once (by cores), and how many more to hand over ahead of time."""

    slots: int
    ahead: int


class Decision(msgspec.Struct, frozen=True):
    """What to do now.

    `submit`  ready jobs to intend and then hand over, in this order
    `cancel`  keys of live attempts to end
    `end`     the run's outcome, if nothing is left to do
    `leave`   the run is stopped and nothing is live: close the log
    """

    submit: list[JobId] = []
    cancel: list[str] = []
    end: str = ""
    leave: bool = False


def decide(state: State, limits: Limits) -> Decision:
    """What follows from `state`."""
    if state.outcome or state.planned is None:
        return Decision(leave=bool(state.outcome))
    if state.cancelling or state.stopping:
        live = [state.jobs[job].key for job in state.live]
        if live:
            return Decision(cancel=live)
        if state.cancelling:
            return Decision(end="cancelled")
        if state.active:
            return Decision(leave=True)  # else the last attempt was quicker than the wish to stop: the run has ended
    if not state.active:
        return Decision(end=outcome(state))
    if state.paused:
        return Decision()
    room = limits.slots + limits.ahead - len(state.live)
    return Decision(submit=list(itertools.islice(state.ready, max(room, 0))))


def outcome(state: State) -> str:
    """How a run in which nothing is left to do has ended."""
    if state.cancelling:
        return "cancelled"
    if state.failed or state.workflow.state is not JobState.SUCCEEDED or state.workflow.pending:
        return "failed"
    return "succeeded"


def attempt_key(run: str, job: JobId, attempt: int) -> str:
    """The name of an attempt for ever, in every batch system."""
    return f"{run}.{job}.{attempt}"


def parse_key(key: str) -> tuple[str, JobId, int]:
    """The reverse of `attempt_key`. Raises ValueError for a key that is none of ours."""
    run, job, attempt = key.rsplit(".", 2)
    return run, int(job), int(attempt)
