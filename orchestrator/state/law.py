"""The law of a job's states: which there are, and which may follow which.

    added → waiting → ready → submitting → queued → running → succeeded → done

An attempt may end from submitting, queued or running (news of the earlier steps can be late or never come). It ends
as succeeded, or the job becomes ready again for another try, or it is failed or cancelled for good. A job whose needs
cannot be met is skipped. `succeeded` is the body; `done` is the body and every job that stands in its value.

The diagram in the documentation is made from `TRANSITIONS` by `diagram()`; a test compares the two.
"""

from __future__ import annotations

import enum


class JobState(enum.StrEnum):
    """Where a job stands."""

    ADDED = "added"  # made by an attempt that has not been committed yet
    WAITING = "waiting"  # for values of other jobs
    READY = "ready"  # for a place
    SUBMITTING = "submitting"  # intention recorded, the adapter has not answered yet
    QUEUED = "queued"  # the batch system has it
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # its body; jobs in its value are not all done
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # what it needs failed

    __hash__ = str.__hash__  # Enum's own is written in Python, and states are looked up at every event


S = JobState

LIVE = frozenset({S.SUBMITTING, S.QUEUED, S.RUNNING})
"""An attempt may exist in the batch system."""

ACTIVE = LIVE | {S.WAITING, S.READY}
"""There is something left to do for the job itself."""

OVER = frozenset({S.DONE, S.FAILED, S.CANCELLED, S.SKIPPED})
"""Final, unless the run is restarted."""

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    S.ADDED: frozenset({S.WAITING, S.READY, S.CANCELLED}),
    S.WAITING: frozenset({S.READY, S.SKIPPED, S.CANCELLED}),
    S.READY: frozenset({S.SUBMITTING, S.CANCELLED}),
    S.SUBMITTING: frozenset({S.QUEUED, S.RUNNING, S.SUCCEEDED, S.READY, S.FAILED, S.CANCELLED}),
    S.QUEUED: frozenset({S.RUNNING, S.SUCCEEDED, S.READY, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.READY, S.FAILED, S.CANCELLED}),
    S.SUCCEEDED: frozenset({S.DONE}),
    S.DONE: frozenset(),
    S.FAILED: frozenset({S.READY}),  # a restart
    S.CANCELLED: frozenset({S.READY, S.WAITING, S.SKIPPED}),  # a restart
    S.SKIPPED: frozenset({S.WAITING, S.CANCELLED}),  # a restart; a cancel
}


def diagram() -> str:
    """The transition table as text, for the documentation."""
    order = list(JobState)
    lines = [
        f"{old.value:<11}→ {', '.join(new.value for new in sorted(TRANSITIONS[old], key=order.index)) or '(final)'}"
        for old in order
    ]
    return "\n".join(lines)
