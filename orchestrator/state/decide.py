"""The decisions of the leader: from the state to what to do next. Pure.

`decide` looks only at indexes of the state (`ready`, `live`, counts), never at all jobs.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from orch.bus.events import JobId
from orch.state.graph import SETTLED
from orch.state.law import ACTIVE, JobState
from orch.state.model import Job, State


class Limits(msgspec.Struct, frozen=True):
    """How much may be live at once.

    `slots`, `ahead`  what the adapter offers: attempts that fit (by cores), how many more to hand over ahead of time
    `jobs`            the most attempts of all kinds; 0: not limited
    `lanes`           the most attempts of some kinds: "local", "service", "preemptible service"
    `first_failure`   the run is given up when a job fails for good
    """

    slots: int
    ahead: int
    jobs: int = 0
    lanes: dict[str, int] = {}
    first_failure: bool = False


class Decision(msgspec.Struct, frozen=True):
    """What to do now.

    `rewind`  checkpoints that run again, with what failed below them; look again before anything else
    `abandon` why the run is to be given up; look again before anything else
    `submit`  ready jobs to intend and then hand over, in this order
    `cancel`  keys of live attempts to end
    `stop`    keys of services that are not needed any more
    `remove`  jobs whose files nobody needs any more
    `end`     the run's outcome, if nothing is left to do
    `leave`   the run is stopped and nothing is live: close the log
    """

    rewind: list[tuple[JobId, JobId]] = []
    abandon: str = ""
    submit: list[JobId] = []
    cancel: list[str] = []
    stop: list[str] = []
    remove: list[JobId] = []
    end: str = ""
    leave: bool = False


def decide(state: State, limits: Limits, due: Iterable[JobId] = ()) -> Decision:
    """What follows from `state`. `due`: jobs that are ready and set aside, and whose time has come."""
    if state.outcome or state.planned is None:
        return Decision(leave=bool(state.outcome))
    if state.ending or state.stopping:
        if state.live:
            return Decision(cancel=_to_end(state))
        if state.ending:
            return Decision(end=outcome(state))
        if state.active:
            return Decision(leave=True)  # else the last attempt was quicker than the wish to stop: the run has ended
    if state.rewinds:
        return Decision(rewind=list(state.rewinds.items()))
    if limits.first_failure and state.failed and state.active:
        failed = state.jobs[next(iter(state.failed))]
        return Decision(abandon=f"job {failed.label} failed, and the run was to stop on the first failure")
    remove = list(state.removable)
    if not state.active:
        return Decision(end=outcome(state), remove=remove)
    cancel = [state.jobs[job].key for job in (*state.stale, *state.unwanted)]
    submit = [] if state.paused else _submit(state, limits, due)
    return Decision(submit=submit, cancel=cancel, stop=to_stop(state), remove=remove)


def _submit(state: State, limits: Limits, due: Iterable[JobId]) -> list[JobId]:
    live = sum(state.lanes.values())
    room = limits.slots + limits.ahead - live
    if limits.jobs:
        room = min(room, limits.jobs - live)
    if room <= 0:
        return []
    rooms = {lane: most - state.lanes[lane] for lane, most in limits.lanes.items() if most}
    found: list[JobId] = []
    for job in due:
        lane = state.jobs[job].lane
        if len(found) < room and rooms.get(lane, 1) > 0:
            found.append(job)
            if lane in rooms:
                rooms[lane] -= 1
    return found + state.ready.take(room - len(found), rooms)


def _to_end(state: State) -> list[str]:
    """Keys of all live attempts; services only when nothing else is live, and no service that needs them."""
    live = [state.jobs[job] for job in state.live]
    others = [row for row in live if row.form != "service"]
    if others or len(live) == 1:
        return [row.key for row in others or live]
    needed = {parent for row in live for parent in row.parents}
    return [row.key for row in live if row.id not in needed]


def to_stop(state: State) -> list[str]:
    """Keys of services that nobody needs any more: children first.

    All below the job of such a service is over, and so are jobs elsewhere that take its credentials. One that is not up
    yet is let be until it is: a service that is begun always has a value.
    """
    services = [state.jobs[service] for host in state.idle for service in state.services[host]]
    return [row.key for row in services if row.id in state.live and row.valued and not _is_used(state, row)]


def _is_used(state: State, service: Job) -> bool:
    """Does a job use it, or will one, or may a checkpoint have to again?"""
    users = map(state.jobs.__getitem__, reversed(service.users))  # the last is mostly the last one
    return any(row.state in ACTIVE or _may_run_again(row) for row in users)


def _may_run_again(row: Job) -> bool:
    return row.checkpoint and row.state is JobState.SUCCEEDED and not row.told & SETTLED


def outcome(state: State) -> str:
    """How a run in which nothing is left to do has ended."""
    if state.cancelling:
        return "cancelled"
    workflow = state.workflow
    whole = workflow.state is JobState.SUCCEEDED and workflow.valued and not workflow.hurt
    return "succeeded" if whole and not state.failed and not state.abandoned else "failed"


def attempt_key(run: str, job: JobId, attempt: int) -> str:
    """The name of an attempt for ever, in every batch system."""
    return f"{run}.{job}.{attempt}"


def parse_key(key: str) -> tuple[str, JobId, int]:
    """The reverse of `attempt_key`. Raises ValueError for a key that is none of ours."""
    run, job, attempt = key.rsplit(".", 2)
    return run, int(job), int(attempt)
