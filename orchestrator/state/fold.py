"""The fold: `apply(state, event)` is the only thing that changes a state.

It is total over legal logs and raises `IllegalTransition`, naming the event, on any other. Some changes of state are
consequences and have no event of their own (`orch.state.graph`): a job becomes ready when the last thing that it waits
for is there, done when all that is below it is, skipped when what it needs has failed, cancelled when the run is and it
was not live; a link of a chain waits again when the one before it did not end well. They happen in the same step as the
event that they follow from, so no state in between exists in which they are missing, and they bear that event's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orch.bus import events as ev
from orch.state import attempts
from orch.state.graph import IllegalTransition, forget_call, hold, move, ripple, survey_again
from orch.state.joining import added, commit, forget
from orch.state.law import JobState
from orch.state.model import State
from orch.state.restart import restarted

S = JobState


def apply(state: State, event: ev.Event) -> None:
    """Fold one event into `state`. Raises `IllegalTransition`; the state is then not to be used any more."""
    fold((event,), state)


def fold(events: Iterable[ev.Event], state: State | None = None) -> State:
    """The state after all of `events`, which follow on those that `state` has. Raises as `apply` does."""
    state = state or State()
    handlers, seq, event = HANDLERS, state.seq, None
    for event in events:
        seq += 1
        if event.seq != seq:
            raise IllegalTransition(f"event {event.seq} follows event {seq - 1}")
        try:
            handlers[type(event)](state, event)
        except IllegalTransition as error:
            raise IllegalTransition(f"event {seq} ({_tag(event)}): {error}") from None
        except (KeyError, IndexError) as error:
            raise _unknown(event, error) from None
    if event is not None:
        state.seq, state.time = seq, event.time
    state.cool()
    return state


def _unknown(event: ev.Event, error: LookupError) -> IllegalTransition:
    if type(event) not in HANDLERS:
        return IllegalTransition(f"event {event.seq}: type {type(event).__name__} is not known to this version of orch")
    return IllegalTransition(f"event {event.seq} ({_tag(event)}) names job {error}, which does not exist")


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
        forget(state, attempt)


def _created(state: State, event: ev.Created) -> None:
    if state.created is not None:
        raise IllegalTransition("the run was created twice")
    state.created = event
    state.bundle = event.bundle


def _recoded(state: State, event: ev.Recoded) -> None:
    state.bundle = event.bundle
    for row in state.jobs.where(lambda row: row.cache and row.state in (S.WAITING, S.READY)):
        survey_again(state, row)
        forget_call(state, row)


def _adjusted(state: State, event: ev.Adjusted) -> None:
    state.adjusted = {**state.adjusted, **event.settings}


def _planned(state: State, event: ev.Planned) -> None:
    if state.planned is not None:
        raise IllegalTransition("the run was planned twice")
    state.planned = event
    row = state.workflow
    row.state, row.attempt, row.value_seq, row.alias = S.SUCCEEDED, 1, event.seq, event.alias
    todo = [row]
    commit(state, row, 0, event.count, event.time, todo)
    hold(state, row, event.refs)
    ripple(state, todo, event.time)


def _requested(state: State, event: ev.Requested) -> None:
    if event.what == "stop":
        state.stopping = True
    elif event.what == "pause":
        state.paused = True
    elif event.what == "resume":
        state.paused = False
    elif event.what == "cancel":
        if not state.cancelling:
            state.cancelling = True
            _cancel_rest(state, event.time)
    else:
        raise IllegalTransition(f"nobody can request {event.what!r}")


def _abandoned(state: State, event: ev.Abandoned) -> None:
    if not event.message:
        raise IllegalTransition("no run is given up without a reason")
    state.abandoned = state.abandoned or event.message
    _cancel_rest(state, event.time)


def _cancel_rest(state: State, time: str) -> None:
    """What has not begun never will."""
    state.rewinds = {}
    changed = list(state.jobs.where(lambda row: row.state in (S.WAITING, S.READY, S.SKIPPED)))
    for row in changed:
        move(state, row, S.CANCELLED, time)
    ripple(state, changed, time)


def _warned(state: State, event: ev.Warned) -> None:
    state.warnings.append(event.message)


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


HANDLERS: dict[type[ev.Event], Callable[[State, Any], None]] = {
    ev.Opened: _opened,
    ev.Created: _created,
    ev.Recoded: _recoded,
    ev.Adjusted: _adjusted,
    ev.Planned: _planned,
    ev.Requested: _requested,
    ev.Abandoned: _abandoned,
    ev.Warned: _warned,
    ev.Restarted: restarted,
    ev.Ended: _ended,
    ev.Closed: _closed,
    ev.Added: added,
    ev.Submitting: attempts.submitting,
    ev.Submitted: attempts.submitted,
    ev.Running: attempts.running,
    ev.Serving: attempts.serving,
    ev.Annotated: attempts.annotated,
    ev.Logged: attempts.logged,
    ev.Succeeded: attempts.succeeded,
    ev.Surveyed: attempts.surveyed,
    ev.Reused: attempts.reused,
    ev.Retrying: attempts.retrying,
    ev.Failed: attempts.failed,
    ev.Cancelled: attempts.cancelled,
    ev.Rewound: attempts.rewound,
    ev.Removed: attempts.removed,
}
