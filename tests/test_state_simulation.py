"""Random workflows on a faulty batch system, with leaders that are killed: nothing is lost, nothing runs twice."""

from __future__ import annotations

import functools
import operator
import random
from collections import Counter
from typing import Literal

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lives import Lives
from support.workflows import RandomWorkflow

from orch.attempt import Reason
from orch.bus import events as ev
from orch.state.fold import apply
from orch.state.law import JobState
from orch.state.model import State
from orch.testing.batch import FakeBatch, Faults
from orch.testing.faults import Crash, Crashed
from orch.testing.states import check, difference, snapshot

MOMENTS: tuple[Literal["before", "half", "after"], ...] = ("before", "half", "after")

LIVES = 40
"""Leaders that a run may use up. The last half of them is neither killed nor disturbed, so that the run must end."""

ENDS = {
    Reason.FAILED: 0.06,
    Reason.MEMLIMIT: 0.03,
    Reason.LOST: 0.04,
    Reason.PREEMPTED: 0.03,
    Reason.PARTITION: 0.02,
    Reason.MAXJOBDURATION: 0.02,
}

EVENTS: msgspec.json.Decoder[ev.Event] = msgspec.json.Decoder(functools.reduce(operator.or_, ev.KNOWN))

seeds = given(seed=st.integers(0, 2**32))


class Story:
    """One seed's story: the workflow, the faults, the crashes and the wishes all follow from it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.workflow = RandomWorkflow(seed)
        faults = Faults(delay=self.chance.choice([0.0, 1.0, 5.0]), twice=0.3, ends=ENDS, forgets=0.3)
        self.batch = FakeBatch(self.workflow.body, seed=seed, faults=faults)
        self.lives = Lives(self.workflow.plan(), self.batch, retries=1)
        self.batch.on_idle = self._wake

    def _wake(self) -> bool:
        """A run that is paused is resumed when nothing moves any more."""
        if self.lives.state.paused:
            self.lives.wish("resume")
            return True
        return False

    async def tell(self) -> None:
        for life in range(LIVES):
            calm = life >= LIVES // 2
            crash = None
            if calm:
                self.batch.faults = Faults(delay=1.0)
                self.batch.crash = None
            else:
                crash = self._crash(20)
                self.batch.crash = self._crash(30)
                self._wishes()
            try:
                await self.lives.live(
                    restart=self._restart(calm), crash=crash, pauses=lambda: self.chance.randint(0, 3)
                )
            except Crashed:
                for _ in range(self.chance.randint(0, 5)):
                    self.batch.step()  # the batch system goes on without a leader
            if self.lives.state.outcome == "succeeded":
                return
        raise AssertionError("the run has not ended")

    def _restart(self, calm: bool) -> bool:
        return calm or bool(self.lives.state.outcome) or self.chance.random() < 0.5

    def _crash(self, most: int) -> Crash | None:
        when = self.chance.choice(MOMENTS)
        return Crash(self.chance.randint(1, most), when) if self.chance.random() < 0.7 else None

    def _wishes(self) -> None:
        epoch = self.lives.log.epoch + 1
        for _ in range(self.chance.choice([0, 0, 1, 2])):
            what = self.chance.choice(["pause", "stop", "cancel", "pause", "resume"])

            def wish(what: str = what) -> None:
                if self.lives.log.epoch == epoch and self.lives.leader is not None:
                    self.lives.wish(what)

            self.batch.later(self.chance.uniform(0, 10), wish)


def told(seed: int) -> Story:
    story = Story(seed)
    anyio.run(story.tell)
    return story


@seeds
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_nothing_is_lost_and_nothing_runs_twice(seed: int) -> None:
    story = told(seed)
    lives, workflow = story.lives, story.workflow
    assert lives.result() == workflow.expected

    names = {event.job: event.name for event in lives.said(ev.Added)}
    committed = Counter(names[event.job] for event in lives.said(ev.Succeeded))
    assert committed == dict.fromkeys(workflow.names, 1), "each body is committed once"
    ran = {names[job]: times for job, times in story.batch.succeeded.items()}
    assert ran == dict.fromkeys(workflow.names, 1), "each body ran to its end once"
    assert {row.name for row in lives.state.jobs.values()} == workflow.names
    assert all(row.state is JobState.DONE for row in lives.state.jobs.values())


@seeds
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_an_old_attempt_never_speaks_after_a_newer_one(seed: int) -> None:
    latest: dict[int, int] = {}
    for event in told(seed).lives.log.events:
        match event:
            case ev.Submitting():
                assert event.attempt == latest.get(event.job, 0) + 1
                latest[event.job] = event.attempt
            case (
                ev.Submitted() | ev.Running() | ev.Succeeded() | ev.Retrying() | ev.Failed() | ev.Cancelled()
                | ev.Annotated() | ev.Logged()
            ):  # fmt: skip
                assert event.attempt == latest[event.job]


@seeds
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_the_replay_of_every_prefix_is_the_live_state(seed: int) -> None:
    story = Story(seed)
    with pytest.MonkeyPatch.context() as patch:
        story.lives.watch(patch)
        anyio.run(story.tell)
    replayed = State()
    compared = 0
    for event in story.lives.log.events:
        apply(replayed, EVENTS.decode(msgspec.json.encode(event)))  # as it comes from a log
        check(replayed)
        live = story.lives.pictures.get((event.epoch, event.seq))
        if live is not None:
            assert difference(snapshot(replayed), live) == [], f"after event {event.seq}"
            compared += 1
    assert compared or len(story.lives.state.jobs) == 0
    assert difference(snapshot(replayed), snapshot(story.lives.state)) == []


def test_the_same_seed_tells_the_same_story() -> None:
    for seed in range(5):
        assert told(seed).lives.log.events == told(seed).lives.log.events


def test_different_seeds_tell_different_stories() -> None:
    assert told(1).lives.log.events != told(2).lives.log.events
