"""Folding a few events by hand."""

from __future__ import annotations

import msgspec

from orch.bus import events as ev
from orch.state.fold import apply
from orch.state.law import JobState
from orch.state.model import State


class Folded:
    """A state, and the events that it came from. `then` numbers and applies more of them."""

    def __init__(self, *events: ev.Event) -> None:
        self.state = State()
        self.events: list[ev.Event] = []
        self.then(*events)

    def then(self, *events: ev.Event) -> Folded:
        """Apply events, numbered on; those that had a number keep it."""
        for event in events:
            seq = event.seq or self.state.seq + 1
            time = event.time or f"2030-01-01T00:00:{seq % 60:02d}.000000Z"
            stamped = msgspec.structs.replace(event, seq=seq, time=time)
            apply(self.state, stamped)
            self.events.append(stamped)
        return self


def begun() -> Folded:
    """A run that has been created, and nothing more."""
    return Folded(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))


def added(job: int, needs: list[int] | None = None, by: int = 0, attempt: int = 0, retries: int = 0) -> ev.Added:
    """A new job, named "j" and its number."""
    return ev.Added(job=job, kind="job", name=f"j{job}", needs=needs or [], by=by, attempt=attempt, retries=retries)


def submitting(job: int, attempt: int = 1) -> ev.Submitting:
    """The intention to run a job."""
    return ev.Submitting(job=job, attempt=attempt, key=f"r.{job}.{attempt}", adapter="fake")


def run_through(job: int, attempt: int = 1) -> list[ev.Event]:
    """An attempt, from its intention to its success."""
    return [submitting(job, attempt), ev.Running(job=job, attempt=attempt), ev.Succeeded(job=job, attempt=attempt)]


def subject(wanted: JobState) -> int:
    """The job that `reach` brings into a state."""
    return 3 if wanted is JobState.DROPPED else 1


def reach(wanted: JobState) -> Folded:
    """A run in which job 1 is in a given state, by the shortest way. Job 2 is another one, without needs.

    What is dropped is job 3, below job 1.
    """
    told = begun()
    needs = [2] if wanted in (JobState.WAITING, JobState.SKIPPED) else []
    first = msgspec.structs.replace(added(1, needs, retries=1), checkpoint=wanted is JobState.DROPPED)
    told.then(first, added(2))
    if wanted is JobState.ADDED:
        return told
    told.then(ev.Planned(count=2, refs=[1]))
    failure = ev.Failed(job=1, attempt=1, reason="FAILED")
    way: dict[JobState, list[ev.Event]] = {
        JobState.SUBMITTING: [submitting(1)],
        JobState.QUEUED: [submitting(1), ev.Submitted(job=1, attempt=1)],
        JobState.RUNNING: [submitting(1), ev.Running(job=1, attempt=1)],
        JobState.SUCCEEDED: [
            submitting(1),
            added(3, by=1, attempt=1),
            ev.Succeeded(job=1, attempt=1, refs=[3], added=1),
        ],
        JobState.DONE: run_through(1),
        JobState.FAILED: [submitting(1), failure],
        JobState.CANCELLED: [ev.Requested(what="cancel")],
        JobState.DROPPED: [
            submitting(1),
            added(3, by=1, attempt=1),
            ev.Succeeded(job=1, attempt=1, added=1),
            submitting(3),
            ev.Failed(job=3, attempt=1, reason="FAILED"),
            ev.Rewound(job=1, failed=3),
        ],
        JobState.SKIPPED: [submitting(2), ev.Failed(job=2, attempt=1, reason="FAILED")],
    }
    return told.then(*way.get(wanted, []))
