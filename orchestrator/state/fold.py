"""The fold: `apply(state, event)` is the only thing that changes a state.

It is total over legal logs and raises `IllegalTransition`, naming the event, on any other. Some changes of state are
consequences and have no event of their own: a job becomes ready when the last value that it needs is known, done when
the last job in its value is, skipped when what it needs has failed, cancelled when the run is and it was not live.
They happen in the same step as the event that they follow from, so no state in between exists in which they are
missing, and they bear that event's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orch.bus import events as ev
from orch.state.graph import IllegalTransition, admit, complete, doom, hold, link, move, redeem
from orch.state.law import JobState
from orch.state.model import WORKFLOW, Job, State

S = JobState


def apply(state: State, event: ev.Event) -> None:
    """Fold one event into `state`. Raises `IllegalTransition`; the state is then not to be used any more."""
    handler = HANDLERS.get(type(event))
    if handler is None:
        raise IllegalTransition(f"event {event.seq}: type {type(event).__name__} is not known to this version of orch")
    seq = event.seq
    if seq != state.seq + 1:
        raise IllegalTransition(f"event {seq} follows event {state.seq}")
    state.seq = seq
    state.time = event.time
    try:
        handler(state, event)
    except IllegalTransition as error:
        raise IllegalTransition(f"event {event.seq} ({_tag(event)}): {error}") from None
    except (KeyError, IndexError) as error:
        raise IllegalTransition(f"event {event.seq} ({_tag(event)}) names job {error}, which does not exist") from None


def fold(events: Iterable[ev.Event], state: State | None = None) -> State:
    """The state after all of `events`."""
    state = state or State()
    for event in events:
        apply(state, event)
    return state


def _tag(event: ev.Event) -> str:
    return str(event.__struct_config__.tag)


# The run ---------------------------------------------------------------------------------------------------------


def _opened(state: State, event: ev.Opened) -> None:
    state.epoch = event.epoch
    state.leader = (event.host, event.pid, event.time)
    state.closed = ""
    state.stopping = False
    state.warnings = []  # they were about what an earlier leader found
    for attempt in list(state.provisional):
        _forget(state, attempt)


def _created(state: State, event: ev.Created) -> None:
    if state.created is not None:
        raise IllegalTransition("the run was created twice")
    state.created = event
    state.bundle = event.bundle


def _recoded(state: State, event: ev.Recoded) -> None:
    state.bundle = event.bundle


def _planned(state: State, event: ev.Planned) -> None:
    if state.planned is not None:
        raise IllegalTransition("the run was planned twice")
    state.planned = event
    row = state.workflow
    row.state, row.attempt, row.value_seq, row.alias = S.SUCCEEDED, 1, event.seq, event.alias
    _commit(state, (WORKFLOW, 0), event.count, event.time)
    hold(state, row, event.refs, event.time)


def _requested(state: State, event: ev.Requested) -> None:
    if event.what == "stop":
        state.stopping = True
    elif event.what == "pause":
        state.paused = True
    elif event.what == "resume":
        state.paused = False
    elif event.what == "cancel":
        _cancel_run(state, event.time)
    else:
        raise IllegalTransition(f"nobody can request {event.what!r}")


def _cancel_run(state: State, time: str) -> None:
    if state.cancelling:
        return
    state.cancelling = True
    for row in list(state.jobs.values()):
        if row.state in (S.WAITING, S.READY, S.SKIPPED):
            was_skipped = row.state is S.SKIPPED
            move(state, row, S.CANCELLED, time)
            if not was_skipped:
                doom(state, row, time)


def _warned(state: State, event: ev.Warned) -> None:
    state.warnings.append(event.message)


def _restarted(state: State, event: ev.Restarted) -> None:
    if state.outcome == "succeeded":
        raise IllegalTransition(f"the run has {state.outcome}")
    state.outcome = ""
    state.stopping = state.paused = state.cancelling = False
    state.restarts += 1
    cancelled = [row for row in state.jobs.values() if row.state is S.CANCELLED]
    for row in [state.jobs[job] for job in state.failed] + cancelled:
        row.charged = row.free = 0
        row.reason = row.message = ""
        row.exit_code, row.signal = None, 0
        if row.state is S.FAILED:
            move(state, row, S.READY, event.time)
        elif row.doomed:
            move(state, row, S.SKIPPED, event.time)
            continue  # what needs it stays doomed until it is redeemed itself
        else:
            move(state, row, S.WAITING if row.missing else S.READY, event.time)
        redeem(state, row, event.time)
    state.failed = {}


OUTCOMES = ("succeeded", "failed", "cancelled")


def _ended(state: State, event: ev.Ended) -> None:
    if state.active:
        raise IllegalTransition(f"the run cannot have {event.outcome} while {state.active} jobs are left")
    if state.outcome:
        raise IllegalTransition(f"the run has {state.outcome} already")
    if event.outcome not in OUTCOMES:
        raise IllegalTransition(f"no run ends as {event.outcome!r}")
    state.outcome = event.outcome


def _closed(state: State, event: ev.Closed) -> None:
    state.closed = event.reason


# Jobs ------------------------------------------------------------------------------------------------------------


def _added(state: State, event: ev.Added) -> None:
    if event.job < state.next_job:
        raise IllegalTransition(f"job {event.job} comes after job {state.next_job - 1}")
    state.next_job = event.job + 1
    row = Job(event.job, event.kind, event.name, event.seq)
    row.by, row.needs, row.form = event.by, event.needs, event.form
    row.resources, row.retries = event.resources, event.retries
    row.times[S.ADDED] = event.time
    state.jobs[row.id] = row
    state.counts[S.ADDED] += 1
    state.provisional.setdefault((event.by, event.attempt), []).append(row.id)


def _commit(state: State, attempt: tuple[int, int], count: int, time: str) -> None:
    """The provisional jobs of an attempt become real."""
    jobs = [state.jobs[job] for job in state.provisional.pop(attempt, ())]
    if len(jobs) != count:
        raise IllegalTransition(f"{count} new jobs are counted, {len(jobs)} were added")
    for row in jobs:
        link(state, row)
    for row in jobs:
        admit(state, row, time)


def _forget(state: State, attempt: tuple[int, int]) -> None:
    """The provisional jobs of an attempt that did not succeed never were."""
    for job in state.provisional.pop(attempt, ()):
        del state.jobs[job]
        state.counts[S.ADDED] -= 1


def _submitting(state: State, event: ev.Submitting) -> None:
    row = state.jobs[event.job]
    if event.attempt != row.attempt + 1:
        raise IllegalTransition(f"attempt {event.attempt} of job {row.label} follows attempt {row.attempt}")
    move(state, row, S.SUBMITTING, event.time)
    row.attempt, row.key, row.adapter = event.attempt, event.key, event.adapter
    row.external_id = row.host = ""
    row.pid = 0
    if row.attempt > 1:
        row.times.pop(S.QUEUED, None)
        row.times.pop(S.RUNNING, None)
    state.live[row.id] = None


def _live(state: State, event: Any) -> Job:
    """The row of a job whose live attempt the event is about."""
    row = state.jobs[event.job]
    if event.attempt != row.attempt or row.id not in state.live:
        raise IllegalTransition(f"attempt {event.attempt} of job {row.label} is not live")
    return row


def _submitted(state: State, event: ev.Submitted) -> None:
    row = _live(state, event)
    move(state, row, S.QUEUED, event.time)
    row.external_id = event.id


def _running(state: State, event: ev.Running) -> None:
    row = _live(state, event)
    move(state, row, S.RUNNING, event.since or event.time)
    row.host, row.pid = event.host, event.pid


def _annotated(state: State, event: ev.Annotated) -> None:
    row = _live(state, event)
    row.annotations = {**(row.annotations or {}), event.name: event.value}


def _logged(state: State, event: ev.Logged) -> None:
    _live(state, event)


def _over(state: State, event: Any) -> Job:
    """The live attempt is over: what every way of ending has in common."""
    row = _live(state, event)
    del state.live[row.id]
    row.usage, row.output_seq = event.usage, event.seq
    return row


def _succeeded(state: State, event: ev.Succeeded) -> None:
    row = _over(state, event)
    row.reason, row.message, row.exit_code, row.signal = "FINISHED", "", 0, 0
    row.value_seq, row.alias = event.seq, event.alias
    move(state, row, S.SUCCEEDED, event.time)
    if event.added or state.provisional:
        _commit(state, (row.id, event.attempt), event.added, event.time)
    if event.refs:
        hold(state, row, event.refs, event.time)
    elif row.users or event.alias:
        complete(state, row, event.time)
    else:
        move(state, row, S.DONE, event.time)


def _fail(state: State, event: ev.Retrying | ev.Failed) -> Job:
    row = _over(state, event)
    row.reason, row.message = event.reason, event.message
    row.exit_code, row.signal = event.exit_code, event.signal
    _forget(state, (row.id, event.attempt))
    return row


def _retrying(state: State, event: ev.Retrying) -> None:
    row = _fail(state, event)
    if event.charged:
        row.charged += 1
    else:
        row.free += 1
    if state.cancelling:
        move(state, row, S.CANCELLED, event.time)
        doom(state, row, event.time)
    else:
        move(state, row, S.READY, event.time)


def _failed(state: State, event: ev.Failed) -> None:
    row = _fail(state, event)
    row.charged += 1
    state.failed[row.id] = None
    move(state, row, S.FAILED, event.time)
    doom(state, row, event.time)


def _cancelled(state: State, event: ev.Cancelled) -> None:
    row = _over(state, event)
    row.reason = "KILLED"
    _forget(state, (row.id, event.attempt))
    move(state, row, S.CANCELLED, event.time)
    doom(state, row, event.time)


HANDLERS: dict[type[ev.Event], Callable[[State, Any], None]] = {
    ev.Opened: _opened,
    ev.Created: _created,
    ev.Recoded: _recoded,
    ev.Planned: _planned,
    ev.Requested: _requested,
    ev.Warned: _warned,
    ev.Restarted: _restarted,
    ev.Ended: _ended,
    ev.Closed: _closed,
    ev.Added: _added,
    ev.Submitting: _submitting,
    ev.Submitted: _submitted,
    ev.Running: _running,
    ev.Annotated: _annotated,
    ev.Logged: _logged,
    ev.Succeeded: _succeeded,
    ev.Retrying: _retrying,
    ev.Failed: _failed,
    ev.Cancelled: _cancelled,
}
