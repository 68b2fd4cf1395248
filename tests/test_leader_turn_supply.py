"""What an attempt is handed: its body, and the values of all that it needs, with all that stands in those."""

from __future__ import annotations

import random

import pytest
from support.folded import Folded, added, begun, submitting
from support.lives import Lives
from support.workflows import blob, resolve

from orch.attempt import Attempt, NewJob, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.leader.supply import EACH, Supply
from orch.testing.batch import FakeBatch


def supply_of(told: Folded, limit: int = 1 << 20) -> tuple[Supply, list[int]]:
    """A supply that reads from a log, and the numbers of the events that it has read."""
    read: list[int] = []

    def fetch(seq: int) -> ev.Event:
        read.append(seq)
        return told.events[seq - 1]

    return Supply(fetch, limit), read


def test_the_values_in_a_value_come_along() -> None:
    """A consumer of `job["part"]` needs the job, and all jobs that its value is made of."""
    told = begun().then(added(1), added(2, [1]), ev.Planned(count=2, refs=[2]), submitting(1))
    told.then(added(3, by=1, attempt=1), added(4, by=1, attempt=1))
    told.then(ev.Succeeded(job=1, attempt=1, added=2, refs=[4, 3], value=blob([{"job": 0}, {"job": 1}])))
    told.then(submitting(3), ev.Succeeded(job=3, attempt=1, value=blob("three")))
    told.then(submitting(4), added(5, by=4, attempt=1))
    told.then(ev.Succeeded(job=4, attempt=1, added=1, refs=[5], value=blob({"job": 0})))
    told.then(submitting(5), ev.Succeeded(job=5, attempt=1, value=blob("five")), submitting(2))

    supply, _ = supply_of(told)
    attempt = supply.attempt(told.state, told.state.jobs[2], "/here", 99)
    assert (attempt.key, attempt.needs, attempt.cwd, attempt.max_log) == ("r.2.1", [1], "/here", 99)
    assert sorted(attempt.values) == [1, 3, 4, 5]
    assert [attempt.values[job].refs for job in (1, 3, 4, 5)] == [[4, 3], [], [5], []]
    assert attempt.values[3].label == "j3 [3]"
    assert resolve(attempt.values, 1) == ["five", "three"]


def test_a_tail_call_gives_the_value_of_the_last_job() -> None:
    told = begun().then(added(1), added(2, [1]), ev.Planned(count=2, refs=[2]), submitting(1))
    told.then(added(3, by=1, attempt=1), ev.Succeeded(job=1, attempt=1, added=1, refs=[3], alias=True))
    told.then(submitting(3), added(4, by=3, attempt=1), added(5, by=3, attempt=1))
    told.then(ev.Succeeded(job=3, attempt=1, added=2, refs=[4], alias=True))
    told.then(submitting(4), added(6, by=4, attempt=1))
    told.then(ev.Succeeded(job=4, attempt=1, added=1, refs=[6], value=blob(["four", {"job": 0}])))
    told.then(submitting(6), ev.Succeeded(job=6, attempt=1, value=blob("six")), submitting(2))
    supply, _ = supply_of(told)
    values = supply.attempt(told.state, told.state.jobs[2], "", 0).values
    assert sorted(values) == [1, 6], "the jobs in between are of no use to anybody"
    assert resolve(values, 1) == ["four", "six"]


def test_what_was_just_written_is_not_read_again() -> None:
    told = begun().then(added(1), ev.Planned(count=1, refs=[1]), submitting(1))
    supply, read = supply_of(told)
    for event in told.events:
        supply.note(event)
    supply.attempt(told.state, told.state.jobs[1], "", 0)
    assert read == []


@pytest.mark.parametrize("limit", [1000, 5000])
def test_the_cache_is_bounded_and_always_right(limit: int) -> None:
    told = begun()
    for job in range(1, 40):
        told.then(ev.Added(job=job, kind="job", body=ev.Blob(data=bytes([job]) * job * 10)))
    supply, read = supply_of(told, limit)
    chance = random.Random(1)
    for _ in range(500):
        job = chance.randint(1, 39)
        assert supply.blob(told.state.jobs[job].added_seq).data == bytes([job]) * job * 10
        held = sum(len(blob.data) + EACH for blob in supply._blobs.values())
        assert held == supply._bytes
        assert held <= limit
    assert len(read) > 39


def test_what_is_larger_than_the_cache_is_held_alone() -> None:
    told = begun().then(ev.Added(job=1, kind="job", body=ev.Blob(data=b"x" * 500)), added(2))
    supply, read = supply_of(told, 100)
    for _ in range(3):
        assert len(supply.blob(3).data) == 500
    assert read == [3]
    supply.blob(4)
    assert list(supply._blobs) == [4]


async def test_a_bundle_that_was_read_again_is_handed_to_new_attempts() -> None:
    bundles: list[tuple[str, str]] = []
    batch = FakeBatch(lambda attempt: Outcome(key=attempt.key, reason=Reason.FINISHED))
    lives = Lives(Plan(jobs=[NewJob(kind="job", body=blob(0))]), batch)
    intended = batch.on_submit

    def look(attempt: Attempt) -> None:
        bundles.append((attempt.key, attempt.bundle))
        intended(attempt)

    batch.on_submit = look
    writer = lives.log.open()
    writer.stage([ev.Created(run="run", bundle="old"), added(1), ev.Planned(count=1, refs=[1])])
    writer.stage([ev.Recoded(bundle="new", previous="old")])
    await writer.commit()
    await lives.live()
    assert bundles == [("run.1.1", "new")]
