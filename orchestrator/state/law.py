"""The law of a job's states: which there are, and which may follow which.

    added → waiting → ready → submitting → queued → running → succeeded → done

An attempt may end from submitting, queued or running (news of the earlier steps can be late or never come). It ends
as succeeded, or the job becomes ready again for another try, or it is failed or cancelled for good. A job whose needs
cannot be met is skipped. `succeeded` is the body; `done` is the body and everything below it: children, follow-ons,
the jobs that it made, services. What is below a checkpoint that runs again is dropped.

The diagram in the documentation is made from `TRANSITIONS` by `diagram()`; a test compares the two.
"""

from __future__ import annotations

import enum


class JobState(enum.StrEnum):
    """Where a job stands."""

    ADDED = "added"  # made by an attempt that has not been committed yet
    WAITING = "waiting"  # for values of other jobs, or for what goes before it
    READY = "ready"  # for a place
    SUBMITTING = "submitting"  # intention recorded, the adapter has not answered yet
    QUEUED = "queued"  # the batch system has it
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # its body; what is below it is not done
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # what it needs failed
    DROPPED = "dropped"  # the checkpoint above it runs again

    __hash__ = str.__hash__  # Enum's own is written in Python, and states are looked up at every event


S = JobState

LIVE = frozenset({S.SUBMITTING, S.QUEUED, S.RUNNING})
"""An attempt may exist in the batch system."""

ACTIVE = LIVE | {S.WAITING, S.READY}
"""There is something left to do for the job itself."""

DEAD = frozenset({S.FAILED, S.CANCELLED, S.SKIPPED, S.DROPPED})
"""Its body will not succeed any more, unless the run is restarted."""

OVER = DEAD | {S.DONE}
"""Final, unless the run is restarted."""

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    S.ADDED: frozenset({S.WAITING, S.READY, S.CANCELLED}),
    # submitting: as a link of a chain; succeeded: a job without a body
    S.WAITING: frozenset({S.READY, S.SUBMITTING, S.SUCCEEDED, S.SKIPPED, S.CANCELLED, S.DROPPED}),
    # waiting: a service that it needs was lost; succeeded: an equal earlier call has its value
    S.READY: frozenset({S.SUBMITTING, S.WAITING, S.SUCCEEDED, S.CANCELLED, S.DROPPED}),
    S.SUBMITTING: frozenset({S.QUEUED, S.RUNNING, S.SUCCEEDED, S.READY, S.WAITING, S.FAILED, S.CANCELLED, S.DROPPED}),
    S.QUEUED: frozenset({S.RUNNING, S.SUCCEEDED, S.READY, S.WAITING, S.FAILED, S.CANCELLED, S.DROPPED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.READY, S.WAITING, S.FAILED, S.CANCELLED, S.DROPPED}),
    S.SUCCEEDED: frozenset({S.DONE, S.READY, S.WAITING, S.DROPPED}),  # ready, waiting: a checkpoint runs again
    S.DONE: frozenset({S.DROPPED, S.WAITING}),  # waiting: a service that is needed again, in a restarted run
    S.FAILED: frozenset({S.READY, S.WAITING, S.DROPPED}),  # a restart
    S.CANCELLED: frozenset({S.READY, S.WAITING, S.SKIPPED, S.DROPPED}),  # a restart
    S.SKIPPED: frozenset({S.WAITING, S.CANCELLED, S.DROPPED}),  # a restart; a cancel
    S.DROPPED: frozenset(),
}


def diagram() -> str:
    """The transition table as text, for the documentation."""
    order = list(JobState)
    lines = [
        f"{old.value:<11}→ {', '.join(new.value for new in sorted(TRANSITIONS[old], key=order.index)) or '(final)'}"
        for old in order
    ]
    return "\n".join(lines)
