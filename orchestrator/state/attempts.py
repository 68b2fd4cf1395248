"""Events about attempts: from the intention to the end, and what follows from that."""

from __future__ import annotations

from sys import intern
from typing import Any

from orch.bus import events as ev
from orch.state import chain, keeping
from orch.state.graph import (
    IllegalTransition,
    finish_leaf,
    forget_call,
    has_succeeded,
    hold,
    is_leaf,
    make_known,
    make_unknown,
    move,
    ripple,
    set_forth,
)
from orch.state.joining import commit, forget
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.restart import restart_services
from orch.state.rewind import checkpoint_above, drop, rewind

S = JobState
READY, SUBMITTING, QUEUED, RUNNING, SUCCEEDED, DONE = (
    S.READY, S.SUBMITTING, S.QUEUED, S.RUNNING, S.SUCCEEDED, S.DONE
)  # fmt: skip


def submitting(state: State, event: ev.Submitting) -> None:
    """An attempt is intended."""
    row = state.jobs[event.job]
    if event.attempt != row.attempt + 1:
        raise IllegalTransition(f"attempt {event.attempt} of job {row.label} follows attempt {row.attempt}")
    if event.survey != (row.surveys < 0):
        raise IllegalTransition(f"job {row.label} is {'not ' if event.survey else ''}to be surveyed")
    if event.after:
        chain.join(state, row, event)
        move(state, row, SUBMITTING, event.time)
    else:
        if row.state is not READY:
            raise IllegalTransition(f"job {row.label} cannot go from {row.state} to {SUBMITTING}")
        counts = state.counts
        state.lanes[row.lane] += 1
        if state.delayed or state.surveyed:
            set_forth(state, row)
        else:
            state.ready.discard(row)
        counts[READY] -= 1
        counts[SUBMITTING] += 1
        row.state, row.submitting_at = SUBMITTING, event.time
    if event.survey:
        row.surveys -= 1
    row.attempt, row.key, row.adapter = event.attempt, event.key, intern(event.adapter)
    if event.attempt > 1:
        row.external_id = row.host = row.queued_at = row.running_at = ""
        row.pid = 0
    state.live[event.job] = None


def _live(state: State, event: Any) -> Job:
    """The row of a job whose live attempt the event is about."""
    row = state.jobs[event.job]
    if event.attempt != row.attempt or event.job not in state.live:
        raise IllegalTransition(f"attempt {event.attempt} of job {row.label} is not live")
    return row


def submitted(state: State, event: ev.Submitted) -> None:
    """The batch system has it."""
    row = _live(state, event)
    if row.state is not SUBMITTING:
        raise IllegalTransition(f"job {row.label} cannot go from {row.state} to {QUEUED}")
    counts = state.counts
    counts[SUBMITTING] -= 1
    counts[QUEUED] += 1
    row.state, row.queued_at = QUEUED, event.time
    row.external_id = event.id


def running(state: State, event: ev.Running) -> None:
    """Its body runs."""
    row = _live(state, event)
    if row.state is RUNNING:
        raise IllegalTransition(f"job {row.label} cannot go from {row.state} to {RUNNING}")
    counts = state.counts
    counts[row.state] -= 1
    counts[RUNNING] += 1
    row.state, row.running_at = RUNNING, event.since or event.time
    row.host, row.pid = intern(event.host), event.pid


def serving(state: State, event: ev.Serving) -> None:
    """A service is up."""
    row = _live(state, event)
    if row.form != "service" or row.state is not S.RUNNING or row.valued:
        raise IllegalTransition(f"job {row.label} is no service that is starting")
    row.value_seq = event.seq
    todo = [state.row(row.serves)]
    make_known(state, row, todo)
    ripple(state, todo, event.time)


def annotated(state: State, event: ev.Annotated) -> None:
    """It said something about itself."""
    row = _live(state, event)
    row.annotations = {**(row.annotations or {}), event.name: event.value}


def logged(state: State, event: ev.Logged) -> None:
    """It said something."""
    _live(state, event)


def _over(state: State, event: Any) -> Job:
    """The live attempt is over: what every way of ending has in common."""
    row = _live(state, event)
    del state.live[event.job]
    if row.after:
        chain.leave(state, row)
    else:
        state.lanes[row.lane] -= 1
    if state.stale:
        state.stale.pop(row.id, None)
    row.usage = event.usage
    return row


def succeeded(state: State, event: ev.Succeeded) -> None:
    """The body has ended well."""
    row = _over(state, event)
    if row.unwanted or row.surveys < 0 or (row.form == "service" and not row.valued):
        raise IllegalTransition(f"the attempt of job {row.label} cannot be the last one")
    row.output_seq = event.seq
    row.reason, row.exit_code = "FINISHED", 0
    if row.message or row.signal:
        row.message, row.signal = "", 0
    valued = row.valued
    if not valued:  # else it is a service, or a checkpoint that runs again: a value, once known, stays
        row.value_seq, row.alias = event.seq, event.alias
    todo: list[Job] = []
    if not (event.added or event.refs or event.files or state.provisional) and is_leaf(state, row):
        finish_leaf(state, row, todo, event.time)
        if todo:
            ripple(state, todo, event.time)
        return
    has_succeeded(state, row, todo, event.time)
    todo.append(row)
    _leave(state, row, event, todo, valued=valued)
    ripple(state, todo, event.time)
    if row.form == "service" and row.value_seq < state.restarted and not state.ending:
        restart_services(state, [row.serves], event.time)  # it was told to stop before what needs it was revived


def _leave(state: State, row: Job, event: ev.Succeeded, todo: list[Job], *, valued: bool) -> None:
    """What a body has left: new jobs, a value, files, and its place to the next link."""
    if event.added or state.provisional:
        commit(state, row, event.attempt, event.added, event.time, todo)
    if event.refs and not row.valued:
        hold(state, row, event.refs)
    if event.files and not valued:
        keeping.keep(state, row, event.files)
    if event.holds:
        keeping.hand_on(state, row, event.holds)
    if row.link:
        chain.go_on(state, row, todo, event)


def surveyed(state: State, event: ev.Surveyed) -> None:
    """What it asks for, and what its call is, is known."""
    if not state.jobs[event.job].survey:
        raise IllegalTransition(f"job {state.jobs[event.job].label} was not to be surveyed")
    row = _over(state, event)
    row.surveys = row.surveyed
    row.resources = event.resources
    todo: list[Job] = []
    _again(state, row, event, todo)
    if event.call is not None:
        state.calls[row.id] = event.call
        if row.state is S.READY:
            state.ready.discard(row)
            state.surveyed[row.id] = event.call
        elif row.state is S.WAITING:
            forget_call(state, row)
    ripple(state, todo, event.time)


def reused(state: State, event: ev.Reused) -> None:
    """It takes the value of an equal earlier call."""
    row = state.jobs[event.job]
    if row.id not in state.surveyed or not event.values:
        raise IllegalTransition(f"job {row.label} cannot take the value of another call")
    row.reason, row.exit_code, row.signal = "FINISHED", 0, 0
    row.message = f"value of job {event.source} of run {event.run}"
    row.value_seq = event.seq
    del state.calls[row.id]  # it is not a call that was made here
    todo = [row]
    has_succeeded(state, row, todo, event.time)
    ripple(state, todo, event.time)


def _fail(state: State, event: ev.Retrying | ev.Failed | ev.Cancelled, todo: list[Job]) -> Job:
    """An attempt has ended without success: what it had made, and what built upon it, is void."""
    row = _over(state, event)
    row.output_seq = event.seq
    forget(state, (row.id, event.attempt))
    todo.append(row)
    chain.void(state, row, todo, event.time)
    if row.form == "service":
        make_unknown(state, row, todo, event.time)
    return row


def _again(state: State, row: Job, event: Any, todo: list[Job]) -> None:
    """The job can have another attempt, as far as it goes by this one."""
    todo.append(row)
    if row.unwanted:
        raise IllegalTransition(f"job {row.label} is not to be tried again: the checkpoint above it is")
    if state.ending:
        move(state, row, S.CANCELLED, event.time)
    else:
        move(state, row, S.WAITING if row.missing else S.READY, event.time)


def retrying(state: State, event: ev.Retrying) -> None:
    """It ended, and there will be another."""
    todo: list[Job] = []
    row = _fail(state, event, todo)
    _say_why(row, event)
    if event.charged:
        row.charged += 1
    else:
        row.free += 1
    if event.resources is not None:
        row.resources = event.resources
    _again(state, row, event, todo)
    _delay(state, row, event)
    ripple(state, todo, event.time)


def _delay(state: State, row: Job, event: ev.Retrying | ev.Rewound) -> None:
    """Have it back off, at once or as soon as it is ready."""
    if event.wait > 0 and row.state is S.READY:
        set_forth(state, row)
        state.delayed[row.id] = (event.time, event.wait)
    elif event.wait > 0 and row.state is S.WAITING:
        state.held[row.id] = (event.time, event.wait)


def _say_why(row: Job, event: ev.Retrying | ev.Failed) -> None:
    row.reason, row.message = event.reason, event.message
    row.exit_code, row.signal = event.exit_code, event.signal


def failed(state: State, event: ev.Failed) -> None:
    """It ended, and there is no other."""
    todo: list[Job] = []
    row = _fail(state, event, todo)
    if row.unwanted:
        raise IllegalTransition(f"job {row.label} cannot fail: it is below a checkpoint that runs again")
    _say_why(row, event)
    row.charged += 1
    state.failed[row.id] = None
    move(state, row, S.FAILED, event.time)
    above = next((each for each in checkpoint_above(state, row) if each.charged < each.retries), None)
    if above is not None and not state.ending:
        state.rewinds[above.id] = row.id
    ripple(state, todo, event.time)


def cancelled(state: State, event: ev.Cancelled) -> None:
    """It was ended on request, or for a checkpoint's sake."""
    todo: list[Job] = []
    row = _fail(state, event, todo)
    row.reason = "KILLED"
    if row.unwanted:
        drop(state, row, todo, event.time)
    else:
        move(state, row, S.CANCELLED, event.time)
    ripple(state, todo, event.time)


def rewound(state: State, event: ev.Rewound) -> None:
    """A checkpoint runs again."""
    row = state.jobs[event.job]
    if state.rewinds.pop(row.id, None) != event.failed:
        raise IllegalTransition(f"nothing failed below job {row.label} that would make it run again")
    todo = rewind(state, row, event.time)
    _delay(state, row, event)
    ripple(state, todo, event.time)


def removed(state: State, event: ev.Removed) -> None:
    """Files that nobody needs are to be deleted."""
    if event.job not in state.removable:
        raise IllegalTransition(f"files of job {state.jobs[event.job].label} may be needed still, or there are none")
    keeping.forget(state, event.job)
    state.removed.append(event.seq)
