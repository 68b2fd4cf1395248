"""Runs in which nothing can move any more: found, and explained. Pure.

Services hold their places for as long as they are needed. If they hold so much that nothing of what needs them can ever
get a place, the run would wait for ever. So would several runs whose services hold each other's places: that only the
adapter can see. It is told of each of them that it waits for others, and tells one of them to give way.
"""

from __future__ import annotations

import msgspec

from orch.adapters.contract import Capacity, fits
from orch.state.decide import Limits, to_stop
from orch.state.law import JobState
from orch.state.model import Job, State

MOST_NAMED = 4


def deadlock(state: State, capacity: Capacity, limits: Limits) -> str:
    """Why nothing can move any more; empty if something can, or may."""
    if _moves(state):
        return ""
    live = [state.jobs[job] for job in state.live]
    if not live and not state.ready:
        return _nothing_left(state)
    running, queued = _split(live)
    if not running:
        return ""
    if _may_get_room(state, queued, running, capacity, limits):
        return _in_the_way(running, queued, capacity) if capacity.give_way else ""
    wanting = queued or [state.jobs[job] for job in state.ready]
    if not wanting:
        return _nothing_left(state)
    return (
        f"only services run ({_names(running)}), and what needs them can never get room: {_names(wanting)}; "
        f"{_short(wanting[0], running, capacity, limits, state)}. Give the run more, or the services less"
    )


def waits_for_others(state: State, capacity: Capacity) -> bool:
    """Do only services run, and can something that was handed over start as soon as other runs give room?"""
    if capacity.elastic or _moves(state):
        return False
    running, queued = _split([state.jobs[job] for job in state.live])
    return bool(running) and _one_fits(queued, running, capacity)


def _moves(state: State) -> bool:
    """May something move by itself, or is nothing to move?"""
    if state.paused or state.ending or state.stopping or not state.active or state.outcome:
        return True
    if state.delayed or state.surveyed or state.rewinds or state.stale or state.unwanted or to_stop(state):
        return True
    live = (state.jobs[job] for job in state.live)
    return any(row.state is JobState.RUNNING and not (row.form == "service" and row.valued) for row in live)


def _split(live: list[Job]) -> tuple[list[Job], list[Job]]:
    """Those that run, and those that wait for their place."""
    running = [row for row in live if row.state is JobState.RUNNING]
    return running, [row for row in live if row.state is not JobState.RUNNING]


def _in_the_way(running: list[Job], queued: list[Job], capacity: Capacity) -> str:
    return (
        f"only services run ({_names(running)}), and what needs them can never get room beside those of other runs: "
        f"{_names(queued)}; {capacity.give_way}. Those runs wait for room, too, and this one has to give way: "
        "carry it on when they are over, or give the services less"
    )


def _nothing_left(state: State) -> str:
    """Jobs wait, and nothing runs that they could wait for."""
    waiting = [row for row in state.jobs.values() if row.state is JobState.WAITING]
    return f"these jobs wait for each other: {_names(waiting)}" if waiting else ""


def _may_get_room(state: State, queued: list[Job], running: list[Job], capacity: Capacity, limits: Limits) -> bool:
    if queued:
        return capacity.elastic or _one_fits(queued, running, capacity)
    room = limits.slots + limits.ahead - len(running)
    if limits.jobs:
        room = min(room, limits.jobs - len(running))
    free = {lane for lane, most in limits.lanes.items() if most and state.lanes[lane] >= most}
    return room > 0 and any(state.jobs[job].lane not in free for job in state.ready)


def _one_fits(queued: list[Job], running: list[Job], capacity: Capacity) -> bool:
    left = _left(running, capacity)
    return any(not _lacks(row, running, left) for row in queued)


def _left(running: list[Job], capacity: Capacity) -> Capacity:
    """What the running services leave."""
    return msgspec.structs.replace(
        capacity,
        cores=round(capacity.cores - sum(row.resources.cores for row in running), 6),  # fractions add up badly
        memory=capacity.memory - sum(row.resources.memory for row in running),
        disk=capacity.disk - sum(row.resources.disk for row in running),
    )


def _lacks(row: Job, running: list[Job], left: Capacity) -> str:
    """What there is not enough of for a job beside the running services; devices are wanted together with theirs."""
    return fits(row.resources, left, [each for service in running for each in service.resources.accelerators])


def _short(wanting: Job, running: list[Job], capacity: Capacity, limits: Limits, state: State) -> str:
    short = _lacks(wanting, running, _left(running, capacity))
    if short:
        return short
    if limits.jobs and len(state.live) >= limits.jobs:
        return f"--max-jobs is {limits.jobs}"
    most = limits.lanes.get(wanting.lane, 0)
    return f"the limit for a {wanting.lane} is {most}" if most else "there is no place left"


def _names(rows: list[Job]) -> str:
    named = ", ".join(row.label for row in rows[:MOST_NAMED])
    return f"{named} and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else named
