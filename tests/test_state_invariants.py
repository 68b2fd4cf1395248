"""Counts and indexes are kept by steps; after every event they are what a look at all jobs would give."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folded import Folded, added, begun, reach, run_through
from support.walk import Walk

from orch.bus import events as ev
from orch.bus.codec import type_name
from orch.state.law import JobState
from orch.state.model import NONE
from orch.testing.states import dead, difference, problems, snapshot


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_after_every_event_of_random_logs(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(60):
        walk.step()
    assert NONE == (), "the list that all rows share when they have none"


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
def test_replaying_any_prefix_of_a_random_log_gives_the_same_state(seed: int) -> None:
    walk = Walk(seed)
    pictures = {walk.told.state.seq: snapshot(walk.told.state)}
    for _ in range(60):
        walk.step()
        pictures[walk.told.state.seq] = snapshot(walk.told.state)
    replayed = Folded()
    for event in walk.events:
        replayed.then(event)
        if event.seq in pictures:
            assert difference(snapshot(replayed.state), pictures[event.seq]) == [], f"after event {event.seq}"


def test_random_logs_have_everything_in_them() -> None:
    said: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    for seed in range(60):
        walk = Walk(seed)
        for _ in range(60):
            walk.step()
        said.update(type_name(event) for event in walk.events)
        forms.update(event.form for event in walk.events if isinstance(event, ev.Added))
        forms.update("link" for event in walk.events if isinstance(event, ev.Submitting) and event.after)
    assert set(said) >= {type_name(kind) for kind in ev.KNOWN} - {"warned", "annotated", "logged", "closed"}
    assert set(forms) == {"fork", "service", "group", "link"}


# The checks themselves can see --------------------------------------------------------------------------------------


def test_snapshots_have_every_field() -> None:
    state = reach(JobState.RUNNING).state
    picture = snapshot(state)
    assert set(type(state).__struct_fields__) - {"jobs"} <= set(picture)
    assert set(picture["job 1"]) == set(type(state.jobs[1]).__struct_fields__)


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
