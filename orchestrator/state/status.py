"""`JobStatus`: the public picture of a job, made from its row."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from orch.bus.events import Resources, Usage
from orch.state.law import JobState
from orch.state.model import Job, State


class JobStatus(msgspec.Struct, frozen=True):
    """Where a job stands.

    `state`      see `JobState`
    `exit_code`  of the latest attempt that ended; None: none has, or it ended without one
    `reason`     why the latest attempt ended (FINISHED, FAILED, LOST …)
    `wall`       seconds that the latest attempt ran, if it ended
    `times`      when each state was entered last (UTC, ISO 8601)
    `why`        why it is not running yet, or why it failed
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
            return "waits for " + _some([state.jobs[n] for n in row.needs if not _done(state, n)], most)
        case JobState.READY:
            if state.paused:
                return "the run is paused (orch resume)"
            again = f" (attempt {row.attempt} ended: {_end(row)})" if row.attempt else ""
            return f"waits for a place{again}"
        case JobState.SUBMITTING | JobState.QUEUED:
            return f"handed to {row.adapter or 'the adapter'}, not started yet"
        case JobState.SUCCEEDED:
            return "its body has run; its value waits for " + _some(
                [state.jobs[n] for n in dict.fromkeys(row.refs) if not _done(state, n)], most
            )
        case JobState.SKIPPED:
            cause = state.jobs.get(row.because)
            return f"needs {cause.label}, which {cause.state.value}" if cause else "what it needs failed"
        case JobState.FAILED:
            return _end(row)
        case _:
            return ""


def _done(state: State, job: int) -> bool:
    return state.jobs[job].state is JobState.DONE


def _some(rows: list[Job], most: int) -> str:
    text = ", ".join(f"{row.label} ({row.state.value})" for row in rows[:most])
    return text + (f" and {len(rows) - most} more" if len(rows) > most else "")


def _end(row: Job) -> str:
    return f"{row.reason}: {row.message}" if row.message else row.reason


def seconds_since(time: str, now: str) -> float:
    """Seconds between two times of the log; none, if a clock was set back meanwhile."""
    return max(0.0, (dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(time)).total_seconds())
