"""Counts and indexes are kept by steps; after every event they are what a look at all jobs would give."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folded import Folded, added, begun, reach, run_through, submitting

from orch.bus import events as ev
from orch.state.law import JobState
from orch.state.model import NONE
from orch.testing.states import check, dead, difference, problems, snapshot


class Walk:
    """A random legal log, made without any leader: wilder than what one would write, and still by the law."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.told = begun()
        self.then(*self._jobs(0, 0, 6))
        self.then(self._planned())

    @property
    def events(self) -> list[ev.Event]:
        return self.told.events

    def then(self, *events: ev.Event) -> None:
        for event in events:
            self.told.then(event)
            check(self.told.state)

    def _jobs(self, by: int, attempt: int, most: int) -> list[ev.Event]:
        first = self.told.state.next_job
        count = self.chance.randint(0, most)
        order = list(range(first, first + count))
        self.chance.shuffle(order)
        needs = {
            job: [other for other in order[:place] if self.chance.random() < 0.4] for place, job in enumerate(order)
        }
        return [
            added(job, needs[job], by=by, attempt=attempt, retries=self.chance.randint(0, 2)) for job in sorted(needs)
        ]

    def _refs(self, jobs: list[int]) -> list[int]:
        """Some of them, now and then twice."""
        return [job for job in jobs for _ in range(self.chance.choice([0, 0, 1, 1, 2]))]

    def _planned(self) -> ev.Event:
        jobs = list(self.told.state.jobs)
        return ev.Planned(count=len(jobs), refs=self._refs(jobs))

    def _succeeded(self, job: int, attempt: int) -> list[ev.Event]:
        jobs = self._jobs(job, attempt, 4)
        ids = [event.job for event in jobs if isinstance(event, ev.Added)]
        refs = self._refs(ids)
        alias = bool(refs) and self.chance.random() < 0.3
        return [
            *jobs,
            ev.Succeeded(job=job, attempt=attempt, added=len(jobs), refs=refs[:1] if alias else refs, alias=alias),
        ]

    def step(self) -> None:
        state = self.told.state
        if self.chance.random() < 0.04:
            self._disturb()
        elif state.live and (not state.ready or self.chance.random() < 0.6):
            self._live(self.chance.choice(list(state.live)))
        elif state.ready:
            job = self.chance.choice(list(state.ready))
            self.then(submitting(job, state.jobs[job].attempt + 1))
        else:
            self._end()

    def _disturb(self) -> None:
        what = self.chance.choice(["cancel", "stop", "pause", "resume", "restart", "open", "orphans"])
        state = self.told.state
        if what == "restart" and state.outcome != "succeeded":
            self.then(ev.Restarted())
        elif what == "open":
            self.then(ev.Opened(run="r", host="h", pid=2, epoch=state.epoch + 1))
        elif what == "orphans" and state.live:  # new jobs of an attempt that will not get as far as to commit them
            job = next(iter(state.live))
            self.then(*self._jobs(job, state.jobs[job].attempt, 3))
            self.then(ev.Opened(run="r", host="h", pid=2, epoch=state.epoch + 1))
        elif what in ("cancel", "stop", "pause", "resume"):
            self.then(ev.Requested(what=what))

    def _live(self, job: int) -> None:
        row = self.told.state.jobs[job]
        attempt = row.attempt
        match self.chance.choice(["submitted", "running", "succeeded", "succeeded", "retrying", "failed", "cancelled"]):
            case "submitted" if row.state is JobState.SUBMITTING:
                self.then(ev.Submitted(job=job, attempt=attempt))
            case "running" if row.state is not JobState.RUNNING:
                self.then(ev.Running(job=job, attempt=attempt))
            case "retrying":
                self.then(ev.Retrying(job=job, attempt=attempt, reason="LOST", charged=self.chance.random() < 0.5))
            case "failed" if self.chance.random() < 0.5:
                self.then(ev.Failed(job=job, attempt=attempt, reason="FAILED"))
            case "cancelled" if self.chance.random() < 0.2:
                self.then(ev.Cancelled(job=job, attempt=attempt))
            case "succeeded":
                self.then(*self._succeeded(job, attempt))

    def _end(self) -> None:
        state = self.told.state
        if not state.outcome:
            self.then(ev.Ended(outcome="failed"))
        self.then(ev.Restarted())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_after_every_event_of_random_logs(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(60):
        walk.step()
    assert NONE == [], "the list that all rows share when they have none"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_a_restart_revives_everything(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(40):
        walk.step()
    if walk.told.state.outcome != "succeeded":
        walk.then(ev.Restarted())
    counts = walk.told.state.counts
    assert [counts[state] for state in (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)] == [0, 0, 0]
    assert dead(walk.told.state) == set()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_replaying_a_random_log_gives_the_same_state(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(60):
        walk.step()
    assert difference(snapshot(Folded(*walk.events).state), snapshot(walk.told.state)) == []


# The checks themselves can see --------------------------------------------------------------------------------------


def test_snapshots_have_every_field() -> None:
    state = reach(JobState.RUNNING).state
    picture = snapshot(state)
    assert set(vars(state)) - {"jobs"} <= set(picture)
    assert set(picture["job 1"]) == set(type(state.jobs[1]).__slots__)


def test_a_snapshot_does_not_change_with_its_state() -> None:
    told = reach(JobState.RUNNING)
    before = snapshot(told.state)
    told.then(ev.Annotated(job=1, attempt=1, name="n", value=1), ev.Succeeded(job=1, attempt=1))
    lines = difference(before, snapshot(told.state))
    assert "live: [1] != {}" in lines
    assert any(line.startswith("job 1.annotations: None != ") for line in lines)


def test_the_order_of_an_index_counts() -> None:
    one = begun().then(added(1), added(2), ev.Planned(count=2))
    other = begun().then(added(1), added(2), ev.Planned(count=2))
    other.state.ready.discard(other.state.jobs[1])
    other.state.ready.add(other.state.jobs[1])
    assert difference(snapshot(one.state), snapshot(other.state)) == ["ready: [1, 2] != [2, 1]"]


@pytest.mark.parametrize("field", ["missing", "pending", "doomed"])
@pytest.mark.parametrize("wanted", JobState)
def test_a_wrong_count_is_seen(wanted: JobState, field: str) -> None:
    state = reach(wanted).state
    if wanted is JobState.ADDED:
        return  # its counts begin when it is committed
    setattr(state.jobs[1], field, getattr(state.jobs[1], field) + 1)
    assert any(field in problem for problem in problems(state))


@pytest.mark.parametrize("index", ["ready", "live", "failed"])
def test_a_wrong_index_is_seen(index: str) -> None:
    state = begun().then(added(1), ev.Planned(count=1, refs=[1]), *run_through(1)).state
    assert problems(state) == []
    if index == "ready":
        state.ready.add(state.jobs[1])
    else:
        getattr(state, index)[1] = None
    assert index in [problem.split(":")[0] for problem in problems(state)]


def test_a_wrong_user_is_seen() -> None:
    state = reach(JobState.WAITING).state
    state.jobs[2].users = []
    assert problems(state) == ["job 2 (ready): users [] != [1]"]
