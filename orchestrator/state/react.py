"""From what an adapter says to events: pure, and deaf to whatever is old, late or said twice."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from orch.adapters.contract import Finished, Queued, Started, Unknown, Update
from orch.attempt import NewJob, Note, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.bus.jsonable import jsonable
from orch.state.decide import parse_key
from orch.state.law import LIVE, JobState
from orch.state.model import WORKFLOW, Job, State
from orch.state.policy import Verdict, judge

S = JobState
LONGEST_MESSAGE = 2000
"""Characters."""

Refuse = Callable[[ev.Resources], str]
"""Says what is short when resources can never be given; empty if they can."""


def react(state: State, update: Update, retries: int, refuse: Refuse) -> list[ev.Event]:
    """The events that follow from one update; none if it is about anything but a live attempt of this run."""
    key = update.outcome.key if isinstance(update, Finished) else update.key
    row = live_row(state, key)
    if row is None:
        return []
    match update:
        case Queued():
            return [ev.Submitted(job=row.id, attempt=row.attempt, id=update.id)] if row.state is S.SUBMITTING else []
        case Started():
            return _started(row, update)
        case Finished():
            return finished(state, row, update.outcome, retries, refuse)
        case Note():
            return [_note(row, update)]
        case Unknown():
            return _unknown(state, row)


def live_row(state: State, key: str) -> Job | None:
    """The job whose live attempt bears `key`."""
    try:
        _, job, attempt = parse_key(key)
    except ValueError:
        return None
    row = state.jobs.get(job)
    if row is None or row.attempt != attempt or row.state not in LIVE or row.key != key:
        return None
    return row


def _started(row: Job, update: Started) -> list[ev.Event]:
    if row.state is S.RUNNING:
        return []
    running = ev.Running(job=row.id, attempt=row.attempt, host=update.host, pid=update.pid, since=update.since)
    if row.state is S.SUBMITTING and update.id:  # it has overtaken `Queued`, which will not be heard any more
        return [ev.Submitted(job=row.id, attempt=row.attempt, id=update.id), running]
    return [running]


def _note(row: Job, note: Note) -> ev.Event:
    if note.kind == "annotate":
        return ev.Annotated(job=row.id, attempt=row.attempt, name=note.name, value=jsonable(note.value))
    return ev.Logged(job=row.id, attempt=row.attempt, text=str(note.value), level=note.level, stream=note.name)


def _unknown(state: State, row: Job) -> list[ev.Event]:
    """An attempt that never arrived is handed over again by the leader; one that had arrived is gone.

    Where the run is to end, one that never arrived has ended: nobody wants it to begin now.
    """
    outcome = Outcome(key=row.key, reason=Reason.MISSING, message="the batch system has forgotten it")
    if row.state is S.SUBMITTING:
        if not (state.cancelling or state.stopping):
            return []
        outcome = Outcome(key=row.key, reason=Reason.KILLED, message="it was never handed over")
    return _ended(row, outcome, cancelling=state.cancelling)


def finished(state: State, row: Job, outcome: Outcome, retries: int, refuse: Refuse) -> list[ev.Event]:
    """The end of the live attempt of `row`."""
    if outcome.reason is not Reason.FINISHED:
        return _ended(row, outcome, cancelling=state.cancelling)
    if not consistent(outcome):
        text = "the outcome names jobs that it does not have: it was made by something else than this version of orch"
        return _ended(row, _instead(outcome, Reason.PARTITION, text), cancelling=state.cancelling)
    problem = impossible(outcome.jobs, refuse)
    if problem:
        return _ended(row, _instead(outcome, Reason.FAILED, problem), cancelling=state.cancelling)
    base = state.next_job
    jobs = added(outcome.jobs, base, row.id, row.attempt, retries)
    warned = [ev.Warned(message=text, job=row.id) for text in outcome.warnings]
    succeeded = ev.Succeeded(
        job=row.id,
        attempt=row.attempt,
        value=outcome.value,
        refs=[base + ref for ref in outcome.refs],
        alias=outcome.alias,
        added=len(jobs),
        files=outcome.files,
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )
    return [*warned, *jobs, succeeded]


def consistent(outcome: Outcome) -> bool:
    """Do its positions name its own new jobs, and does none of those wait for itself?"""
    count = len(outcome.jobs)
    return (
        all(0 <= ref < count for ref in outcome.refs)
        and (not outcome.alias or len(outcome.refs) == 1)
        and all(0 <= need < count for job in outcome.jobs for need in job.needs)
        and _acyclic(outcome.jobs)
    )


def _acyclic(jobs: list[NewJob]) -> bool:
    """Can the jobs be put in an order? Ours are: each needs only earlier ones."""
    if all(need < position for position, job in enumerate(jobs) for need in job.needs):
        return True
    missing = [len(job.needs) for job in jobs]
    users: list[list[int]] = [[] for _ in jobs]
    for position, job in enumerate(jobs):
        for need in job.needs:
            users[need].append(position)
    free = [position for position, number in enumerate(missing) if not number]
    for position in free:  # grows while it is walked
        for user in users[position]:
            missing[user] -= 1
            if not missing[user]:
                free.append(user)
    return len(free) == len(jobs)


def _instead(outcome: Outcome, reason: Reason, message: str) -> Outcome:
    """The outcome of an attempt that was not as good as it says."""
    return Outcome(
        key=outcome.key,
        reason=reason,
        message=message,
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )


def _ended(row: Job, outcome: Outcome, *, cancelling: bool) -> list[ev.Event]:
    if cancelling:
        return [
            ev.Cancelled(
                job=row.id, attempt=row.attempt, usage=outcome.usage, stdout=outcome.stdout, stderr=outcome.stderr
            )
        ]
    verdict = judge(row, outcome.reason)
    failed = ev.Failed(
        job=row.id,
        attempt=row.attempt,
        reason=outcome.reason.value,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=bounded(outcome.message),
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )
    if verdict is Verdict.FAIL:
        return [failed]
    return [ev.Retrying(**msgspec.structs.asdict(failed), charged=verdict is Verdict.RETRY)]


def bounded(message: str) -> str:
    """One message, of a length that people read: the whole of it is on the attempt's stderr, if anywhere."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE * 3 // 4]} […] {message[-LONGEST_MESSAGE // 4 :]}"


def planned(plan: Plan, retries: int) -> list[ev.Event]:
    """The events that commit the workflow function's graph."""
    jobs = added(plan.jobs, 1, WORKFLOW, 0, retries)
    warned = [ev.Warned(message=text) for text in plan.warnings]
    event = ev.Planned(
        count=len(jobs), value=plan.value, refs=[1 + ref for ref in plan.refs], alias=plan.alias, files=plan.files
    )
    return [*warned, *jobs, event]


def added(jobs: list[NewJob], base: int, by: int, attempt: int, retries: int) -> list[ev.Event]:
    """New jobs, numbered from `base`."""
    return [
        ev.Added(
            job=base + position,
            kind=job.kind,
            name=job.name,
            by=by,
            attempt=attempt,
            needs=[base + need for need in job.needs],
            form=job.form,
            body=job.body,
            resources=job.resources,
            retries=retries if job.retries < 0 else job.retries,
        )
        for position, job in enumerate(jobs)
    ]


def impossible(jobs: list[NewJob], refuse: Refuse) -> str:
    """What is wrong with the resources that new jobs ask for; empty if nothing is."""
    for job in jobs:
        short = refuse(job.resources)
        if short:
            return f"job {job.name or job.kind} asks for more than can ever be given here: {short}"
    return ""
