"""Chains: attempts that run in the place of another, without a trip to the leader in between.

A link waits for its predecessor, outside of all queues. When that has finished and nothing has to be done first for its
value to be known, the link gets the value and the place; else it is void, and so is all that is chained after it. The
leader finds that out by itself: nothing is said of what is void.
"""

from __future__ import annotations

import msgspec

from orch.agent.model import Phase, Task
from orch.attempt import Attempt, Outcome, Reason, Value


class Chains:
    """The links that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, Task] = {}  # by the key of the predecessor

    def has(self, key: str) -> bool:
        """Does a link wait for this attempt already?"""
        return key in self._waiting

    def add(self, task: Task, predecessor: Task) -> None:
        """Have a link wait."""
        task.phase = Phase.LINKED
        predecessor.linked = True
        self._waiting[predecessor.key] = task

    def remove(self, task: Task) -> None:
        """This one waits no more: it has a turn of its own."""
        del self._waiting[task.attempt.after]
        task.phase = Phase.QUEUED

    def next(self, key: str) -> Task | None:
        """Take the link that waits for this attempt, if there is one."""
        task = self._waiting.pop(key, None)
        if task is not None:
            task.phase = Phase.QUEUED
        return task

    def void(self, task: Task | None) -> list[Task]:
        """That one, taken already, and all that is chained after it: taken now."""
        found = []
        while task is not None:
            found.append(task)
            task = self.next(task.key)
        return found


def passes_on(outcome: Outcome) -> bool:
    """Is the job's value known, so that what is chained after it may run?"""
    return outcome.reason is Reason.FINISHED and not outcome.jobs and not outcome.refs


def with_value(link: Attempt, predecessor: Attempt, outcome: Outcome) -> Attempt:
    """The link with its predecessor's value, if it needs it."""
    if predecessor.job not in link.needs:
        return link
    label = f"{predecessor.name or predecessor.kind} [job {predecessor.job}]"
    value = Value(blob=outcome.value, label=label)
    return msgspec.structs.replace(link, values={**link.values, predecessor.job: value})


def has_values(link: Attempt) -> bool:
    """Has its leader given it all that it needs? Then it is an attempt like any other."""
    return all(job in link.values for job in link.needs)
