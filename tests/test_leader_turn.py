"""Turns of the leader: what is durable before what is done, what it hears and what it is deaf to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from support.lives import RUN, Lives
from support.turns import ENDS, endless, fails, fine, plan, saying, tags
from support.workflows import blob

from orch.adapters.contract import Capacity, Finished, Queued, Started, Unknown, Update
from orch.attempt import Attempt, NewJob, Note, Outcome, Reason
from orch.bus import events as ev
from orch.bus.errors import Fenced
from orch.errors import AdapterError
from orch.testing.batch import FakeBatch, FakeSession, Faults, Stalled
from orch.testing.faults import Crash, Crashed

# Durable first -----------------------------------------------------------------------------------------------------


async def test_a_run_from_its_beginning_to_its_end() -> None:
    lives = Lives(plan([], [0], [0, 1]), FakeBatch(fine))
    await lives.live()
    assert lives.state.outcome == "succeeded"
    assert lives.state.closed == "ended"
    assert lives.result() == 3
    assert tags(lives, ev.Succeeded) == [("Succeeded", 1, 1), ("Succeeded", 2, 1), ("Succeeded", 3, 1)]
    assert lives.log.events[-len(lives.published) :] == lives.published, "subscribers get what is durable, in order"


async def test_nothing_is_done_before_it_is_durable() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([], []), batch)
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(1, "before"))
    assert batch.calls == []
    assert lives.published == []
    assert tags(lives, ev.Submitting) == []


async def test_an_attempt_that_was_never_handed_over_is_handed_over_again_under_its_number() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([], []), batch)
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(1, "after"))
    assert batch.calls == []
    await lives.live()
    assert batch.calls[:4] == [("find", "run.1.1"), ("find", "run.2.1"), ("submit", "run.1.1"), ("submit", "run.2.1")]
    assert tags(lives, ev.Submitting, *ENDS) == [
        ("Submitting", 1, 1), ("Submitting", 2, 1), ("Succeeded", 1, 1), ("Succeeded", 2, 1),
    ]  # fmt: skip


async def test_half_of_a_batch_was_handed_over() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([], [], [], []), batch)
    batch.crash = Crash(1, "half")
    with pytest.raises(Crashed):
        await lives.live()
    assert [call for call, _ in batch.calls] == ["submit", "submit"]
    batch.crash = None
    await lives.live()
    submitted = [key for call, key in batch.calls if call == "submit"]
    assert sorted(submitted) == ["run.1.1", "run.2.1", "run.3.1", "run.4.1"]
    assert batch.succeeded == {1: 1, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_outcome_is_taken_in_once_though_the_leader_died_over_it(when: str) -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    batch.crash = Crash(2, "before" if when == "before" else "after")  # the acknowledgement
    with pytest.raises(Crashed):
        await lives.live()
    batch.crash = None
    assert tags(lives, ev.Succeeded) == [("Succeeded", 1, 1)]
    await lives.live()
    assert tags(lives, ev.Succeeded) == [("Succeeded", 1, 1)]
    assert batch.succeeded == {1: 1}


async def test_the_outcome_that_the_dead_leader_did_not_commit_is_found() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(3, "before"))
    while batch.step():
        pass  # it ends while nobody leads
    await lives.live()
    assert batch.succeeded == {1: 1}
    assert tags(lives, ev.Submitting) == [("Submitting", 1, 1)]


async def test_what_an_attempt_left_behind_is_all_in_its_event() -> None:
    left = Outcome(
        key="", reason=Reason.FINISHED, value=blob(7), files=[ev.StoredFile(path="f/1.1/a", size=3, digest="sha256:1")],
        usage=ev.Usage(wall=1.5, memory=9), stdout=ev.Blob(data=b"out", size=3), stderr=ev.Blob(data=b"e", size=1),
        warnings=["beware"],
    )  # fmt: skip
    lives = Lives(plan([]), FakeBatch(lambda _: left))
    await lives.live()
    (succeeded,) = lives.said(ev.Succeeded)
    for name in ("value", "files", "usage", "stdout", "stderr"):
        assert getattr(succeeded, name) == getattr(left, name), name
    assert [event.message for event in lives.said(ev.Warned)] == left.warnings


async def test_a_cancelled_leader_finishes_its_turn() -> None:
    """What is durable is done: no attempt is left that was intended and not handed over."""
    batch = FakeBatch(fine)
    lives = Lives(plan([], [0]), batch)
    scope = anyio.CancelScope()
    batch.on_acknowledge = lambda _: scope.cancel()
    with scope:
        await lives.live()
    assert scope.cancelled_caught
    assert [call for call, _ in batch.calls] == ["submit", "acknowledge", "submit"]
    assert lives.leader is not None
    await lives.leader.leave()
    assert [event.reason for event in lives.said(ev.Closed)] == ["left"]
    await lives.live()
    assert lives.result() == 2


async def test_a_leader_that_is_cancelled_while_it_commits_finishes_its_turn() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    scope = anyio.CancelScope()

    def pauses() -> int:
        if lives.leader is not None:  # the plan is durable
            scope.cancel()
        return 1

    with scope:
        await lives.live(pauses=pauses)
    assert scope.cancelled_caught
    assert tags(lives, ev.Submitting) == [("Submitting", 1, 1)]
    assert batch.calls == [("submit", "run.1.1")]


async def test_an_older_leader_is_fenced() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([], [0]), batch)

    def later_leader() -> None:
        lives.log.open()

    batch.later(0, later_leader)
    with pytest.raises(Fenced):
        await lives.live()
    assert batch.calls == [], "what it could not make durable it has not done"


async def test_what_a_broken_turn_has_staged_is_not_committed_by_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    nonsense = ev.Succeeded(job=1, attempt=1, refs=[5])

    def react(_state: object, update: Update, *_: object) -> list[ev.Event]:
        return [nonsense] if isinstance(update, Finished) else []

    monkeypatch.setattr("orch.leader.leader.react", react)
    lives = Lives(plan([]), FakeBatch(fine))
    with pytest.raises(Exception, match="names job"):
        await lives.live()
    assert lives.leader is not None
    await lives.leader.leave()
    assert tags(lives, ev.Succeeded) == []
    assert not any(lives.said(ev.Closed))


async def test_a_leader_that_leaves_says_so_once() -> None:
    lives = Lives(plan([]), FakeBatch(endless))
    with pytest.raises(Stalled):
        await lives.live()
    assert lives.leader is not None
    assert not any(lives.said(ev.Closed))
    await lives.leader.leave()
    await lives.leader.leave()
    assert [event.reason for event in lives.said(ev.Closed)] == ["left"]


# What it is deaf to ------------------------------------------------------------------------------------------------


async def test_every_update_may_come_twice_and_in_any_order() -> None:
    for seed in range(30):
        batch = FakeBatch(fine, seed=seed, faults=Faults(delay=3.0, twice=1.0))
        lives = Lives(plan([], [], [0, 1]), batch)
        await lives.live()
        assert lives.result() == 3
        assert batch.succeeded == {1: 1, 2: 1, 3: 1}


async def test_news_of_strangers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = FakeBatch(fine)
    strange = ["other.1.1", "run.1.7", "run.99.1", "no key at all", "run.x.y", ""]
    news: list[Update] = [Queued(key=key) for key in strange]
    news += [Finished(key=key, outcome=Outcome(key=key, reason=Reason.FAILED)) for key in strange]
    news += [Unknown(key=key) for key in strange]
    news += [Note(key=key, kind="log", value="hello") for key in strange]
    lives = Lives(plan([]), batch)
    saying(batch, monkeypatch, news)
    accepted = batch.on_submit

    def accept(attempt: Attempt) -> None:
        accepted(attempt)
        assert batch._session is not None
        batch._session.arrived += news  # once more, while job 1 is live

    batch.on_submit = accept
    batch.on_acknowledge = lambda _: None
    await lives.live()
    assert lives.state.outcome == "succeeded"
    assert [type(event).__name__ for event in lives.log.events] == [
        "Opened", "Created", "Added", "Planned", "Submitting", "Submitted", "Running", "Succeeded", "Ended", "Closed",
    ]  # fmt: skip


async def test_the_answer_unknown_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said again when the attempt has been handed over, it must not be taken for its end."""
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(1, "after"))
    unknown: Update = Unknown(key="run.1.1", ask=1)
    saying(batch, monkeypatch, [unknown, unknown], [Queued(key="run.1.1", id="7"), unknown], [unknown])
    await lives.live()
    assert [call for call in batch.calls if call[0] == "submit"] == [("submit", "run.1.1")]
    assert tags(lives, ev.Submitting, *ENDS) == [("Submitting", 1, 1), ("Succeeded", 1, 1)]
    assert batch.succeeded == {1: 1}


async def test_an_adapter_that_says_unasked_that_it_knows_nothing_is_asked_about_everything() -> None:
    """Its agent died before it heard of the attempt: the next one has never seen the key."""
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    accepted = batch.accept
    swallowed: list[str] = []

    def accept(attempt: Attempt) -> None:
        if swallowed:
            accepted(attempt)
        else:
            swallowed.append(attempt.key)
            batch.say(Unknown(key=attempt.key))

    batch.accept = accept  # type: ignore[method-assign]
    await lives.live()
    assert swallowed == ["run.1.1"]
    assert tags(lives, ev.Submitting, *ENDS) == [("Submitting", 1, 1), ("Succeeded", 1, 1)]
    assert batch.succeeded == {1: 1}


async def test_an_attempt_that_had_arrived_and_is_unknown_now_is_missing() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(2, "after"))  # "submitted" is durable
    batch.records.clear()
    await lives.live()
    (again,) = lives.said(ev.Retrying)
    assert (again.reason, again.charged) == ("MISSING", False)
    assert tags(lives, ev.Submitting, *ENDS)[1:] == [("Retrying", 1, 1), ("Submitting", 1, 2), ("Succeeded", 1, 2)]


async def test_an_attempt_that_the_batch_system_says_is_missing_is_ended_in_case_it_comes_back() -> None:
    ends = iter([fails(Reason.MISSING), fails(Reason.FINISHED)])
    batch = FakeBatch(lambda _: next(ends))
    lives = Lives(plan([]), batch)
    await lives.live()
    assert [key for call, key in batch.calls if call == "cancel"] == ["run.1.1"]
    assert tags(lives, *ENDS) == [("Retrying", 1, 1), ("Succeeded", 1, 2)]


async def test_nothing_is_scheduled_before_every_attempt_is_settled() -> None:
    batch = FakeBatch(fine, faults=Faults(delay=5.0))
    lives = Lives(plan(*([] for _ in range(12))), batch)
    batch.crash = Crash(1, "after")
    with pytest.raises(Crashed):
        await lives.live()
    batch.crash = None
    batch.capacity = Capacity(cores=99, memory=1 << 40, disk=1 << 40)  # room for all, if it were allowed
    await lives.live()
    assert [call for call, _ in batch.calls].count("find") == 6
    first = next(event.seq for event in lives.said(ev.Submitting) if event.epoch == 2)
    answers = lives.said(ev.Submitted, ev.Running, *ENDS)
    assert {event.job for event in answers if event.epoch == 2 and event.seq < first} == {1, 2, 3, 4, 5, 6}


async def test_attempts_that_nobody_knows_are_ended() -> None:
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    batch.on_submit = lambda _: None
    batch.accept(Attempt(key="run.7.1", run=RUN, job=7, attempt=1, epoch=1, kind="job", name="", form="fork",
                         body=blob(0), resources=ev.Resources()))  # fmt: skip
    await lives.live()
    assert batch.succeeded == {1: 1}


async def test_a_stream_that_ends_ends_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_self: FakeSession) -> AsyncIterator[list[Update]]:
        none: list[list[Update]] = []
        for batch in none:
            yield batch

    monkeypatch.setattr(FakeSession, "updates", nothing)
    with pytest.raises(AdapterError, match="ended its updates"):
        await Lives(plan([]), FakeBatch(fine)).live()


async def test_the_batch_system_s_own_name_arrives_with_the_start_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that overtakes "queued" must not cost the job its external id."""
    batch = FakeBatch(fine)
    lives = Lives(plan([]), batch)
    with pytest.raises(Crashed):
        await lives.live(crash=Crash(1, "after"))
    saying(batch, monkeypatch, [Started(key="run.1.1", id="4711"), Queued(key="run.1.1", id="4711")])
    batch.later(0, lambda: batch.say(Finished(key="run.1.1", outcome=Outcome(key="run.1.1", reason=Reason.FINISHED))))
    await lives.live()
    assert lives.state.jobs[1].external_id == "4711"


# Failures ----------------------------------------------------------------------------------------------------------


async def test_charged_and_uncharged_retries() -> None:
    ends = iter([Reason.LOST, Reason.FAILED, Reason.PREEMPTED, Reason.MEMLIMIT, Reason.FAILED])
    lives = Lives(plan([], retries=2), FakeBatch(lambda _: fails(next(ends))))
    await lives.live()
    assert [(e.attempt, e.reason, e.charged) for e in lives.said(ev.Retrying)] == [
        (1, "LOST", False), (2, "FAILED", True), (3, "PREEMPTED", False), (4, "MEMLIMIT", True),
    ]  # fmt: skip
    assert [(e.attempt, e.reason) for e in lives.said(ev.Failed)] == [(5, "FAILED")]
    assert lives.state.outcome == "failed"


async def test_new_jobs_that_ask_for_too_much_fail_the_attempt_that_made_them() -> None:
    huge = NewJob(kind="huge", body=blob(0), resources=ev.Resources(cores=99))

    def body(attempt: Attempt) -> Outcome:
        return Outcome(key=attempt.key, reason=Reason.FINISHED, jobs=[huge], refs=[0], alias=True)

    lives = Lives(plan([]), FakeBatch(body))
    await lives.live()
    (failed,) = lives.said(ev.Failed)
    assert failed.message == "job huge asks for more than can ever be given here: cores: wanted 99, available 4"
    assert len(lives.state.jobs) == 1


async def test_jobs_that_wait_for_themselves_can_only_come_from_a_broken_adapter_and_are_refused() -> None:
    body = Outcome(key="", reason=Reason.FINISHED, jobs=[NewJob(kind="ring", needs=[0], body=blob(0))], refs=[0])
    lives = Lives(plan([]), FakeBatch(lambda _: body))
    await lives.live()
    assert [event.reason for event in lives.said(ev.Failed)] == ["PARTITION"]
    assert lives.state.outcome == "failed"
