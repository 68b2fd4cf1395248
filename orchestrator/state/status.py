"""`JobStatus`: the public picture of a job, made from its row."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from orch.bus.events import Resources, Usage
from orch.state.graph import find_cause
from orch.state.law import JobState
from orch.state.model import Job, State


class JobStatus(msgspec.Struct, frozen=True):
    """Where a job stands.

    `state`      see `JobState`
    `exit_code`  of the latest attempt that ended; None: none has, or it ended without one
    `reason`     why the latest attempt ended (FINISHED, FAILED, LOST …)
    `wall`       seconds that the latest attempt ran, if it ended
    `times`      when each state was entered last (UTC, ISO 8601)
    `why`        why it is not running yet, or why it failed, or whose value it has taken
    """

    id: str
    kind: str
    name: str
    state: str
    attempt: int
    exit_code: int | None
    signal: int
    reason: str
    message: str
    annotations: dict[str, Any]
    adapter: str
    external_id: str
    host: str
    pid: int
    wall: float | None
    times: dict[str, str]
    needs: list[str]
    resources: Resources
    usage: Usage | None
    why: str


def job_status(state: State, row: Job) -> JobStatus:
    """The status of one job."""
    return JobStatus(
        id=str(row.id),
        kind=row.kind,
        name=row.name or row.kind,
        state=row.state.value,
        attempt=row.attempt,
        exit_code=row.exit_code,
        signal=row.signal,
        reason=row.reason,
        message=row.message,
        annotations=dict(row.annotations or {}),
        adapter=row.adapter,
        external_id=row.external_id,
        host=row.host,
        pid=row.pid,
        wall=row.usage.wall if row.usage else None,
        times={entered.value: time for entered, time in row.times.items()},
        needs=[str(need) for need in row.needs],
        resources=row.resources,
        usage=row.usage,
        why=explain(state, row),
    )


def statuses(state: State) -> dict[str, JobStatus]:
    """Of every job that has been committed, by id."""
    return {str(row.id): job_status(state, row) for row in state.jobs.values() if row.state is not JobState.ADDED}


def explain(state: State, row: Job, most: int = 3) -> str:
    """One line: why the job is not running yet, or how it ended if not well."""
    match row.state:
        case JobState.WAITING:
            return _waits(state, row, most)
        case JobState.READY:
            return _ready(state, row)
        case JobState.SUBMITTING | JobState.QUEUED:
            if row.after:
                return f"runs in the place of {state.jobs[row.after].label}, when that has ended"
            return f"handed to {row.adapter or 'the adapter'}, not started yet"
        case JobState.RUNNING if row.form == "service":
            return _service(state, row)
        case JobState.SUCCEEDED:
            return _below(state, row, most)
        case JobState.SKIPPED:
            cause = state.jobs.get(find_cause(state, row))
            return f"needs {cause.label}, which {_what_became(cause)}" if cause else "what it needs failed"
        case JobState.DROPPED:
            return "the checkpoint above it ran again, and made other jobs instead"
        case JobState.FAILED:
            return _end(row)
        case _:  # what took its value from an earlier call says so
            return row.message if row.state is JobState.DONE else ""


def _waits(state: State, row: Job, most: int) -> str:
    if any(state.jobs[job].unwanted == row.id for job in state.unwanted):
        return "runs again as soon as what it had made is ended"
    parts = []
    values = [state.jobs[need] for need in row.needs if not state.jobs[need].valued]
    if values:
        parts.append(_some(values, most))
    parents = [state.row(parent) for parent in row.parents]
    closed = [each for each in parents if not (each.valued if row.serves >= 0 else each.opened)]
    if closed:
        parts.append(f"{'the services' if row.serves >= 0 else 'its parents'} {_some(closed, most)}")
    followed = [state.row(other) for other in row.follows if not state.row(other).over]
    if followed:
        parts.append(f"all children of {_some(followed, most)}")
    alone = not (row.parents or row.follows or row.serves >= 0)
    if alone and not state.row(row.by).opened:
        parts.append(f"the services of {state.row(row.by).label}")
    if row.serves >= 0 and state.row(row.serves).state not in (JobState.SUCCEEDED, JobState.DONE):
        parts.append(f"the body of {state.row(row.serves).label}")
    return "waits for " + ", and for ".join(parts) if parts else "waits"


def _ready(state: State, row: Job) -> str:
    if state.paused:
        return "the run is paused (orch resume)"
    again = f" (attempt {row.attempt} ended: {_end(row)})" if row.attempt and row.reason else ""
    if row.id in state.delayed:
        return f"backs off until {until(state, row.id)}{again}"
    if row.id in state.surveyed:
        return "asks the call cache for an equal earlier call"
    return f"waits for a place{again}"


def until(state: State, job: int) -> str:
    """When the back-off of a job is over: UTC, ISO 8601. Empty if it is not backing off."""
    if job not in state.delayed:
        return ""
    since, wait = state.delayed[job]
    over = dt.datetime.fromisoformat(since) + dt.timedelta(seconds=wait)
    return over.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _service(state: State, row: Job) -> str:
    if not row.valued:
        return "the service starts"
    host = state.row(row.serves)
    return f"the service stops: {host.label} needs it no more" if row.serves in state.idle else "the service is up"


def _below(state: State, row: Job, most: int) -> str:
    values = [state.jobs[ref] for ref in dict.fromkeys(row.refs) if not state.jobs[ref].valued]
    if values and not row.valued:
        return f"its body has run; its value waits for {_some(values, most)}"
    if row.hurt and row.because:
        cause = state.jobs[find_cause(state, row) or row.because]
        return f"its body has run; {cause.label} below it {_what_became(cause)}"
    if row.unsettled:
        return f"its body has run; {row.unsettled} of its children and follow-ons are not over"
    return f"its body has run; {row.serving} of its services are not over" if row.serving else ""


def _what_became(row: Job) -> str:
    return "was cancelled" if row.state is JobState.CANCELLED else row.state.value


def _some(rows: list[Job], most: int) -> str:
    text = ", ".join(f"{row.label} ({row.state.value})" for row in rows[:most])
    return text + (f" and {len(rows) - most} more" if len(rows) > most else "")


def _end(row: Job) -> str:
    return f"{row.reason}: {row.message}" if row.message else row.reason


def seconds_since(time: str, now: str) -> float:
    """Seconds between two times of the log; none, if a clock was set back meanwhile."""
    return max(0.0, (dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(time)).total_seconds())
