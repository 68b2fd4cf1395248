"""Stop, cancel, pause and resume: recorded first, and pursued until nothing is left to end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.lives import RUN, Lives
from support.turns import endless, fine, plan

from orch.adapters.contract import Finished, Update
from orch.attempt import Attempt, Outcome
from orch.bus import events as ev
from orch.leader.requests import Request
from orch.state.law import JobState
from orch.testing.batch import FakeBatch, FakeSession, Faults
from orch.testing.faults import Crash, Crashed


@pytest.mark.parametrize("first", [True, False], ids=["wish first", "news first"])
@pytest.mark.parametrize("what", ["stop", "cancel", "pause"])
async def test_a_wish_that_comes_with_news_is_heard(monkeypatch: pytest.MonkeyPatch, what: str, first: bool) -> None:
    """The turn that takes in the end of job 1 records the wish too, and hands nothing over."""
    batch = FakeBatch(fine)
    lives = Lives(plan([], [0]), batch)
    updates = FakeSession.updates

    async def wished(session: FakeSession) -> AsyncIterator[list[Update]]:
        async for news in updates(session):
            ended = [each.key for each in news if isinstance(each, Finished)] == ["run.1.1"]
            if ended and first:
                lives.wish(what)
            yield news
            if ended and not first:
                lives.wish(what)

    monkeypatch.setattr(FakeSession, "updates", wished)
    calls: list[str] = []

    def idle() -> bool:
        calls.extend(call for call, _ in batch.calls)
        lives.wish("resume")
        return True

    batch.on_idle = idle
    await lives.live()
    (succeeded, *_), (requested, *_) = lives.said(ev.Succeeded), lives.said(ev.Requested)
    assert requested.what == what
    assert requested.group == succeeded.group, "one turn"
    assert lives.recorded[0].what == what
    assert (calls or [call for call, _ in batch.calls]) == ["submit", "acknowledge"]
    assert (lives.state.outcome, lives.state.closed) == {
        "stop": ("", "stopped"), "cancel": ("cancelled", "ended"), "pause": ("succeeded", "ended"),
    }[what]  # fmt: skip


async def test_stop_ends_live_attempts_uncharged_and_the_run_can_be_carried_on() -> None:
    batch = FakeBatch(endless)
    lives = Lives(plan([], [0]), batch)
    batch.on_submit = lambda _: lives.wish("stop")
    await lives.live()
    assert lives.state.outcome == ""
    assert lives.state.closed == "stopped"
    assert lives.state.counts[JobState.READY] == 1
    batch.on_submit, batch.body = (lambda _: None), fine
    await lives.live(restart=True)
    assert lives.result() == 2
    assert [(event.reason, event.charged) for event in lives.said(ev.Retrying)] == [("KILLED", False)]


async def test_a_stop_when_nothing_is_left_is_an_end() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    batch.on_acknowledge = lambda _: None

    def body(attempt: Attempt) -> Outcome:
        lives.wish("stop")
        return fine(attempt)

    batch.body = body
    await lives.live()
    assert lives.state.stopping
    assert lives.state.outcome == "succeeded", "its only job had done its work"


async def test_cancel_is_pursued_by_the_next_leader() -> None:
    batch = FakeBatch(endless)
    lives = Lives(plan([], [0]), batch)
    batch.on_submit = lambda _: lives.wish("cancel")
    batch.crash = Crash(2, "before")
    with pytest.raises(Crashed):
        await lives.live()
    batch.crash = None
    await lives.live()
    assert lives.state.outcome == "cancelled"
    assert [row.state for row in lives.state.jobs.values()] == [JobState.CANCELLED] * 2
    assert batch.succeeded == {}
    batch.on_submit, batch.body = (lambda _: None), fine
    await lives.live(restart=True)
    assert lives.result() == 2


async def test_each_attempt_is_asked_to_end_once() -> None:
    batch = FakeBatch(endless, faults=Faults(delay=1.0))
    lives = Lives(plan([], [], []), batch)
    batch.on_submit = lambda _: lives.wish("stop")
    await lives.live()
    cancelled = [key for call, key in batch.calls if call == "cancel"]
    assert sorted(cancelled) == ["run.1.1", "run.2.1", "run.3.1"]


async def test_a_paused_run_hands_nothing_over_until_it_is_resumed() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([], [0]), batch)
    batch.on_submit = lambda attempt: lives.wish("pause") if attempt.job == 1 else None
    submitted: list[int] = []

    def idle() -> bool:
        submitted.append(len([call for call, _ in batch.calls if call == "submit"]))
        lives.wish("resume")
        return len(submitted) == 1

    batch.on_idle = idle
    await lives.live()
    assert submitted == [1]
    assert lives.result() == 2


async def test_a_wish_is_let_go_of_only_when_it_is_durable() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    batch.on_submit = lambda _: lives.wish("pause")
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(2, "before"))
    assert lives.recorded == []
    assert not any(lives.said(ev.Requested))
    batch.records.clear()  # so that it is handed over, and the wish made, again
    await lives.live()
    assert [request.what for request in lives.recorded] == ["pause"]
    assert [event.what for event in lives.said(ev.Requested)] == ["pause"]


@pytest.mark.parametrize(("what", "job"), [("dance", 0), ("", 0), ("cancel", 1)])
async def test_a_strange_wish_is_noted_and_does_no_harm(what: str, job: int) -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([], [0]), batch)
    strange = Request(run=RUN, what=what, epoch=1, by="somebody", job=job)

    def ask() -> None:
        assert lives.leader is not None
        lives.leader.request(strange)

    batch.later(0, ask)
    await lives.live()
    assert lives.state.outcome == "succeeded"
    assert lives.recorded == [strange]
    (warning,) = lives.state.warnings
    assert repr(what) in warning
