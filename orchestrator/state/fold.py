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
from orch.state import chain, keeping
from orch.state.graph import (
    IllegalTransition,
    connect,
    finish_leaf,
    forget_call,
    has_succeeded,
    hold,
    make_known,
    make_unknown,
    move,
    open_up,
    ripple,
    set_forth,
    superiors,
    survey_again,
)
from orch.state.law import JobState
from orch.state.model import NONE, WORKFLOW, Job, Queue, State
from orch.state.rewind import checkpoint_above, drop, rewind

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
    for row in state.jobs.values():
        if row.cache and row.state in (S.WAITING, S.READY):
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
    todo = _commit(state, row, 0, event.count, event.time)
    hold(state, row, event.refs)
    ripple(state, [row, *todo], event.time)


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
    changed = [row for row in state.jobs.values() if row.state in (S.WAITING, S.READY, S.SKIPPED)]
    for row in changed:
        move(state, row, S.CANCELLED, time)
    ripple(state, changed, time)


def _warned(state: State, event: ev.Warned) -> None:
    state.warnings.append(event.message)


def _restarted(state: State, event: ev.Restarted) -> None:
    if state.outcome == "succeeded":
        raise IllegalTransition(f"the run has {state.outcome}")
    state.outcome = state.abandoned = ""
    state.stopping = state.paused = state.cancelling = False
    state.restarts += 1
    state.restarted = event.seq
    state.rewinds = {}
    cancelled = [row for row in state.jobs.values() if row.state is S.CANCELLED]
    revived = [*(state.jobs[job] for job in state.failed), *cancelled]
    state.failed = {}
    for row in revived:
        _revive(state, row, event.time)
    ripple(state, revived, event.time)
    if state.services:
        above = _all_above(state, revived)
        _restart_services(state, [host for host in state.services if host in above], event.time)


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


def _restart_services(state: State, hosts: Iterable[int], time: str) -> None:
    """Services of these jobs that had ended well are needed again by what was revived."""
    for host in hosts:
        row = state.row(host)
        again = [state.jobs[each] for each in state.services[host] if state.jobs[each].state is S.DONE]
        if row.state is not S.SUCCEEDED or not row.unsettled:
            continue
        for service in again:
            service.opened = service.over = False
            service.missing = sum(not state.jobs[other].valued for other in (*service.needs, *service.parents))
            move(state, service, S.WAITING, time)
        todo: list[Job] = [*again, row]
        for service in again:
            make_unknown(state, service, todo, time)
        ripple(state, todo, time)


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


# New jobs --------------------------------------------------------------------------------------------------------


def _added(state: State, event: ev.Added) -> None:
    if event.job < state.next_job:
        raise IllegalTransition(f"job {event.job} comes after job {state.next_job - 1}")
    state.next_job = event.job + 1
    row = Job(event.job, event.kind, event.name, event.seq)
    row.by, row.needs, row.form = event.by, event.needs, event.form
    maker = state.jobs.get(event.by)
    if maker is not None:
        row.inside = maker.id if maker.checkpoint else maker.inside
    if event.parents or event.follows or event.serves >= 0:
        row.parents, row.follows, row.serves = event.parents or NONE, event.follows or NONE, event.serves
    row.resources, row.retries, row.retry = event.resources, event.retries, event.retry
    row.checkpoint, row.priority, row.local = event.checkpoint, event.priority, event.local
    if event.cache or event.wanted.size:
        row.cache, row.surveys = event.cache, -1
    if row.local or row.form == "service":
        row.lane = Queue.lane(row)
    row.times[S.ADDED] = event.time
    state.jobs[row.id] = row
    state.counts[S.ADDED] += 1
    state.provisional.setdefault((event.by, event.attempt), []).append(row.id)


def _commit(state: State, maker: Job, attempt: int, count: int, time: str) -> list[Job]:
    """The provisional jobs of an attempt become real; those of them from which something may follow."""
    rows = [state.jobs[job] for job in state.provisional.pop((maker.id, attempt), ())]
    if len(rows) != count:
        raise IllegalTransition(f"{count} new jobs are counted, {len(rows)} were added")
    if not rows:
        return []
    maker.made = range(rows[0].id, rows[0].id + count)
    if rows[-1].id - rows[0].id != count - 1:
        raise IllegalTransition(f"jobs {rows[0].id} to {rows[-1].id} are not {count} jobs")
    for row in rows:
        if row.serves >= 0:
            state.services.setdefault(row.serves, []).append(row.id)
    todo: list[Job] = []
    if maker.id not in state.services:
        open_up(state, maker, todo)
    for row in rows:
        if row.needs or row.parents or row.follows or row.serves >= 0 or not maker.opened:
            connect(state, row)
        else:  # most are plain children of their maker
            maker.unsettled += 1
            maker.open += 1
    return [*todo, *(row for row in rows if _admit(state, row, time))]


def _admit(state: State, row: Job, time: str) -> bool:
    """A job has been committed: it waits, or is ready. Does anything follow from that?"""
    if state.ending:
        move(state, row, S.CANCELLED, time)
    elif row.missing or row.form == "group":
        move(state, row, S.WAITING, time)
        return row.doomed > 0 or not row.missing
    else:
        move(state, row, S.READY, time)
        return False
    return True


def _forget(state: State, attempt: tuple[int, int]) -> None:
    """The provisional jobs of an attempt that did not succeed never were."""
    for job in state.provisional.pop(attempt, ()):
        del state.jobs[job]
        state.counts[S.ADDED] -= 1


# Attempts --------------------------------------------------------------------------------------------------------


def _submitting(state: State, event: ev.Submitting) -> None:
    row = state.jobs[event.job]
    if event.attempt != row.attempt + 1:
        raise IllegalTransition(f"attempt {event.attempt} of job {row.label} follows attempt {row.attempt}")
    if event.survey != row.survey:
        raise IllegalTransition(f"job {row.label} is {'not ' if event.survey else ''}to be surveyed")
    if event.after:
        chain.join(state, row, event)
    elif row.state is not S.READY:
        raise IllegalTransition(f"job {row.label} cannot go from {row.state} to {S.SUBMITTING}")
    else:
        state.lanes[row.lane] += 1
    if event.survey:
        row.surveys -= 1
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


def _serving(state: State, event: ev.Serving) -> None:
    row = _live(state, event)
    if row.form != "service" or row.state is not S.RUNNING or row.valued:
        raise IllegalTransition(f"job {row.label} is no service that is starting")
    row.value_seq = event.seq
    todo = [state.row(row.serves)]
    make_known(state, row, todo)
    ripple(state, todo, event.time)


def _annotated(state: State, event: ev.Annotated) -> None:
    row = _live(state, event)
    row.annotations = {**(row.annotations or {}), event.name: event.value}


def _logged(state: State, event: ev.Logged) -> None:
    _live(state, event)


def _over(state: State, event: Any) -> Job:
    """The live attempt is over: what every way of ending has in common."""
    row = _live(state, event)
    del state.live[row.id]
    chain.leave(state, row)
    if state.stale:
        state.stale.pop(row.id, None)
    row.usage = event.usage
    return row


def _succeeded(state: State, event: ev.Succeeded) -> None:
    row = _over(state, event)
    if row.unwanted or row.survey or (row.form == "service" and not row.valued):
        raise IllegalTransition(f"the attempt of job {row.label} cannot be the last one")
    row.output_seq = event.seq
    row.reason, row.message, row.exit_code, row.signal = "FINISHED", "", 0, 0
    valued = row.valued
    if not valued:  # else it is a service, or a checkpoint that runs again: a value, once known, stays
        row.value_seq, row.alias = event.seq, event.alias
    todo: list[Job] = []
    has_succeeded(state, row, todo, event.time)
    if not (event.added or event.refs or event.files or state.provisional) and finish_leaf(
        state, row, todo, event.time
    ):
        ripple(state, todo, event.time)
        return
    todo.append(row)
    if event.added or state.provisional:
        todo += _commit(state, row, event.attempt, event.added, event.time)
    if event.refs and not row.valued:
        hold(state, row, event.refs)
    if event.files and not valued:
        keeping.keep(state, row, event.files)
    if event.holds:
        keeping.hand_on(state, row, event.holds)
    if row.link:
        chain.go_on(state, row, todo, event)
    ripple(state, todo, event.time)
    if row.form == "service" and row.value_seq < state.restarted and not state.ending:
        _restart_services(state, [row.serves], event.time)  # it was told to stop before what needs it was revived


def _surveyed(state: State, event: ev.Surveyed) -> None:
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


def _reused(state: State, event: ev.Reused) -> None:
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
    _forget(state, (row.id, event.attempt))
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


def _retrying(state: State, event: ev.Retrying) -> None:
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


def _failed(state: State, event: ev.Failed) -> None:
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


def _cancelled(state: State, event: ev.Cancelled) -> None:
    todo: list[Job] = []
    row = _fail(state, event, todo)
    row.reason = "KILLED"
    if row.unwanted:
        drop(state, row, todo, event.time)
    else:
        move(state, row, S.CANCELLED, event.time)
    ripple(state, todo, event.time)


def _rewound(state: State, event: ev.Rewound) -> None:
    row = state.jobs[event.job]
    if state.rewinds.pop(row.id, None) != event.failed:
        raise IllegalTransition(f"nothing failed below job {row.label} that would make it run again")
    todo = rewind(state, row, event.time)
    _delay(state, row, event)
    ripple(state, todo, event.time)


def _removed(state: State, event: ev.Removed) -> None:
    if event.job not in state.removable:
        raise IllegalTransition(f"files of job {state.jobs[event.job].label} may be needed still, or there are none")
    keeping.forget(state, event.job)
    state.removed.append(event.seq)


HANDLERS: dict[type[ev.Event], Callable[[State, Any], None]] = {
    ev.Opened: _opened,
    ev.Created: _created,
    ev.Recoded: _recoded,
    ev.Adjusted: _adjusted,
    ev.Planned: _planned,
    ev.Requested: _requested,
    ev.Abandoned: _abandoned,
    ev.Warned: _warned,
    ev.Restarted: _restarted,
    ev.Ended: _ended,
    ev.Closed: _closed,
    ev.Added: _added,
    ev.Submitting: _submitting,
    ev.Submitted: _submitted,
    ev.Running: _running,
    ev.Serving: _serving,
    ev.Annotated: _annotated,
    ev.Logged: _logged,
    ev.Succeeded: _succeeded,
    ev.Surveyed: _surveyed,
    ev.Reused: _reused,
    ev.Retrying: _retrying,
    ev.Failed: _failed,
    ev.Cancelled: _cancelled,
    ev.Rewound: _rewound,
    ev.Removed: _removed,
}
