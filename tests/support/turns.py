"""For tests of the leader's turns: plans, bodies, and sessions that say what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orch.adapters.contract import Update
from orch.attempt import Attempt, NewJob, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.testing.batch import FakeBatch, FakeSession
from support.lives import Lives
from support.workflows import blob


def plan(*needs: list[int], retries: int = 0) -> Plan:
    """Jobs with these needs; the last one is the workflow's value."""
    jobs = [
        NewJob(kind="job", name=f"j{k}", needs=list(n), body=blob(k), retries=retries) for k, n in enumerate(needs, 1)
    ]
    return Plan(refs=[len(jobs) - 1], alias=True, jobs=jobs)


def fine(attempt: Attempt) -> Outcome:
    """Every body yields its own job's number."""
    return Outcome(key=attempt.key, reason=Reason.FINISHED, value=blob(attempt.job))


def endless(_attempt: Attempt) -> None:
    """Runs until it is ended."""


def fails(reason: Reason) -> Outcome:
    return Outcome(key="", reason=reason, message="on purpose")


def tags(lives: Lives, *kinds: type[ev.Event]) -> list[tuple[str, int, int]]:
    """Durable events about attempts, as (type, job, attempt)."""
    return [(type(event).__name__, event.job, event.attempt) for event in lives.said(*kinds)]


ENDS = (ev.Succeeded, ev.Retrying, ev.Failed, ev.Cancelled)


class Talking(FakeSession):
    """A session that says what a test wants it to say, before anything else."""

    def __init__(self, batch: FakeBatch, *batches: list[Update]) -> None:
        super().__init__(batch)
        self.batches = batches

    async def updates(self) -> AsyncIterator[list[Update]]:
        for batch in self.batches:
            yield batch
        async for batch in super().updates():
            yield batch


def saying(batch: FakeBatch, monkeypatch: pytest.MonkeyPatch, *batches: list[Update]) -> None:
    """The next leaders hear these first."""
    connect = batch.connect

    def connected(epoch: int) -> FakeSession:
        connect(epoch)
        batch._session = Talking(batch, *batches)
        return batch._session

    monkeypatch.setattr(batch, "connect", connected)
