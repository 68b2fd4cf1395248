"""What the engine of batch systems does with a cluster of real processes: lost answers, restarts, ends of all kinds."""

from __future__ import annotations

import asyncio
import errno
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from support.agents import PATIENCE, Signal, View
from support.batchlab import BatchLab, asking, engine_of, said, session_of, writes

from orch.adapters.batch import board, calls, handing, news
from orch.adapters.batch.adapter import BatchAdapter
from orch.adapters.batch.captured import written
from orch.adapters.batch.dialect import Answer, NotTaken, Order
from orch.adapters.batch.pace import Backoff
from orch.adapters.contract import Queued, Said, Unknown
from orch.attempt import Outcome, Reason
from orch.errors import Fenced, UserError
from orch.testing.cluster.client import Row
from orch.testing.cluster.dialect import FakeDialect
from orch.worker.spool import Spool, Ticket


@pytest_asyncio.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BatchLab]:
    monkeypatch.setattr(board, "PATIENCE", 0.5)
    monkeypatch.setattr(board, "UNBEGUN", 0.2)
    monkeypatch.setattr(news, "CLEARED_EVERY", 0.3)
    monkeypatch.setattr(calls, "Backoff", lambda chance: Backoff(chance, first=0.2))
    made = BatchLab(tmp_path)
    try:
        yield made
    finally:
        await made.close()


def over(rows: list[Row]) -> bool:
    return all(row.state == "over" for row in rows)


async def until(wanted: object) -> None:
    """Look again and again until that is so."""
    async with asyncio.timeout(PATIENCE):
        while not wanted():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def test_attempts_that_are_alike_are_one_submission_and_nothing_stays_behind(lab: BatchLab) -> None:
    view = await lab.open()
    attempts = [view.shell(f"echo {number}; exit {number}") for number in range(3)]
    await view.submit(*attempts)
    codes = [(await view.outcome(attempt)).exit_code for attempt in attempts]
    assert codes == [0, 1, 2]
    assert lab.cluster.counts()["submit"] == 1
    await view.close()
    assert lab.left() == []


async def test_what_never_arrived_is_submitted_again_once_that_is_sure(
    lab: BatchLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orch.adapters.batch.handing.SURELY_VISIBLE", 0.2)
    view = await lab.open()
    lab.cluster.set(down=True)
    attempt = writes(view, tmp_path / "ran")
    await view.submit(attempt)
    await view.until(lambda update: isinstance(update, Said) and "does not answer" in update.text)
    lab.cluster.set(down=False)
    assert (await view.outcome(attempt)).reason == Reason.FINISHED
    assert (tmp_path / "ran").read_text() == "1\n"
    assert any("answers again" in text for text in said(view))
    assert lab.spool.submissions() in (["1-1", "1-2"], ["1-2"], [])  # the first was given up


async def test_what_was_given_up_does_nothing_when_it_starts_after_all(
    lab: BatchLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader dies before the answer of its submission; the next one does not find it, and hands over again."""
    monkeypatch.setattr("orch.adapters.batch.adopting.SURELY_VISIBLE", 0.2)
    first = await lab.open()
    lab.cluster.set(down=True)
    attempt = writes(first, tmp_path / "ran")
    await first.submit(attempt)
    await until(lambda: lab.cluster.counts().get("submit", 0))  # it was refused: nothing of it is on its way any more
    await lab.die(first)
    script = tmp_path / "late.sh"
    script.write_bytes(Path(lab.spool.path("orders", "1-1.sh")).read_bytes())
    lab.cluster.set(down=False)
    second = await lab.open(2, find=[attempt.key])
    assert await second.standing(attempt) == Unknown(attempt.key, 1)
    late = await asyncio.to_thread(subprocess.run, ["sh", str(script)], capture_output=True, text=True, check=False)
    assert not (tmp_path / "ran").exists(), late.stderr
    second.updates.clear()
    assert (await second.run_one(attempt)).reason == Reason.FINISHED
    assert (tmp_path / "ran").read_text() == "1\n"


async def test_what_the_next_leader_does_not_want_is_ended(lab: BatchLab, tmp_path: Path) -> None:
    first = await lab.open()
    there = Signal(tmp_path / "there")
    running = first.shell(f"echo -n x > {there.path}; sleep 1000")
    lab.cluster.set(paused=False)
    await first.submit(running)
    await there.wait()
    lab.cluster.set(paused=True)
    queued = first.shell("sleep 1000")
    await first.submit(queued)
    await first.standing(queued)
    await lab.die(first)
    second = await lab.open(2)
    await asyncio.to_thread(lab.cluster.wait, over)
    await until(lambda: not lab.spool.submissions())
    assert not second.outcomes
    there.close()


async def test_an_older_leader_hands_nothing_over(lab: BatchLab, tmp_path: Path) -> None:
    old = await lab.open()
    lab.lead(2)
    await old.submit(writes(old, tmp_path / "ran"))
    with pytest.raises(Fenced, match="epoch 2"):
        await old.until(lambda _: False)
    with pytest.raises(Fenced, match="epoch 2"):
        await BatchAdapter("fake", FakeDialect).open(lab.info(1))
    assert lab.cluster.rows() == []


async def test_a_cancel_holds_where_the_batch_system_does_not_answer(lab: BatchLab) -> None:
    """What waits in the queue can never run; the batch system hears of it when it answers again."""
    view = await lab.open()
    lab.cluster.set(paused=True)
    attempt = view.shell("true")
    await view.submit(attempt)
    await view.standing(attempt)
    lab.cluster.set(down=True)
    await view.session.cancel([attempt.key])
    assert (await view.outcome(attempt)).reason == Reason.KILLED
    lab.cluster.set(down=False)
    await asyncio.to_thread(lab.cluster.wait, over)


async def test_why_a_worker_cannot_begin_is_said(lab: BatchLab) -> None:
    view = await lab.open(python="/nowhere/python")
    outcome = await view.run_one(view.shell("true"))
    assert outcome.reason == Reason.ERROR
    assert "/nowhere/python" in outcome.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("preempt", Reason.PREEMPTED), ("cancel", Reason.FAILED), ("node", Reason.LOST)],
)
async def test_how_others_end_an_attempt(lab: BatchLab, tmp_path: Path, fault: str, reason: Reason) -> None:
    view = await lab.open()
    there = Signal(tmp_path / "there")
    attempt = view.shell(f"echo before; echo -n x > {there.path}; sleep 1000")
    await view.submit(attempt)
    await there.wait()
    (row,) = lab.cluster.rows()
    if fault == "cancel":
        await asyncio.to_thread(subprocess.run, [f"{lab.cluster.bin}/fake-cancel", str(row.job)], check=True)
    elif fault == "node":
        lab.cluster.lose_node(row.host)
    else:
        lab.cluster.fault(fault, row.job)
    outcome = await view.outcome(attempt)
    assert outcome.reason == reason, outcome
    assert outcome.stdout.data == b"before\n"
    there.close()


async def test_what_is_forgotten_is_missing_after_a_while_and_cannot_come_back(lab: BatchLab, tmp_path: Path) -> None:
    view = await lab.open(missing_after="1s")
    lab.cluster.set(paused=True)
    attempt = writes(view, tmp_path / "ran")
    await view.submit(attempt)
    await view.standing(attempt)
    script = Path(lab.spool.path("orders", "1-1.sh")).read_text()
    lab.cluster.fault("forget", lab.cluster.rows()[0].job)
    outcome = await view.outcome(attempt, acknowledge=False)
    assert (outcome.reason, outcome.message) == (
        Reason.MISSING,
        "never started, and the batch system has forgotten it",
    )
    await asyncio.to_thread(subprocess.run, ["sh", "-c", script], capture_output=True, check=False)
    assert not (tmp_path / "ran").exists()


async def test_absence_is_no_end(lab: BatchLab, tmp_path: Path) -> None:
    """A task that the batch system has forgotten runs on, and ends well."""
    view = await lab.open()
    there, hold = Signal(tmp_path / "there"), Signal(tmp_path / "hold")
    attempt = view.shell(f"echo -n x > {there.path}; head -c1 < {hold.path}")
    await view.submit(attempt)
    await there.wait()
    lab.cluster.fault("forget", lab.cluster.rows()[0].job)
    looks = engine_of(view).calls.total["look"]
    await until(lambda: engine_of(view).calls.total["look"] > looks + 3)
    Path(hold.path).write_bytes(b"x")
    assert (await view.outcome(attempt)).reason == Reason.FINISHED
    there.close()
    hold.close()


async def test_what_is_held_is_said_and_described(lab: BatchLab) -> None:
    view = await lab.open()
    lab.cluster.set(paused=True)
    attempt = view.shell("true")
    await view.submit(attempt)
    await view.standing(attempt)
    await until(lambda: session_of(view)._board.tasks[attempt.key].seen is not None)
    assert "Priority" in await view.session.describe(attempt.key)
    lab.cluster.client.call("hold", tasks=[[lab.cluster.rows()[0].job, None]])
    await view.until(lambda update: isinstance(update, Said) and "releases it" in update.text)
    assert "Held" in await view.session.describe(attempt.key)
    await until(lambda: "Held" in Path(lab.spool.root, "pending.json").read_text())


async def test_a_run_has_no_more_in_the_queue_than_its_limits_say(lab: BatchLab) -> None:
    view = await lab.open()
    await view.session.limit(2, 0, 0)
    assert view.session.capacity().cores == 2
    lab.cluster.set(paused=True)
    attempts = [asking(view.shell("true"), cores=1) for _ in range(5)]
    await view.submit(*attempts)
    await view.standing(attempts[1])
    await until(lambda: engine_of(view).calls.total["look"] > 1)
    assert len(lab.cluster.rows()) == 2
    lab.cluster.set(paused=False)
    for attempt in attempts:
        assert (await view.outcome(attempt)).reason == Reason.FINISHED


async def test_where_the_programs_are_missing_the_user_is_told(lab: BatchLab) -> None:
    info = lab.info()
    info.options["fake-cluster"] = "/nowhere"
    with pytest.raises(UserError, match=r"/nowhere/bin/fake-nodes.*--adapter"):
        await BatchAdapter("fake", FakeDialect).open(info)


async def test_what_the_queue_has_no_room_for_is_tried_again_and_not_searched_for(
    lab: BatchLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await lab.open()
    dialect = engine_of(view).dialect
    submitted, times = dialect.submitted, iter(range(2))

    def full(order: Order, answer: Answer) -> str:
        job = submitted(order, answer)
        if next(times, None) is None:
            return job
        lab.cluster.client.cancel([(int(job), None)])  # as if it had not been taken
        raise NotTaken("the limit of 10 submissions is reached")

    monkeypatch.setattr(dialect, "submitted", full)
    lab.cluster.set(paused=True)
    attempt = writes(view, tmp_path / "ran")
    await view.submit(attempt)
    await view.standing(attempt)
    lab.cluster.set(paused=False)
    assert (await view.outcome(attempt)).reason == Reason.FINISHED
    assert (tmp_path / "ran").read_text() == "1\n"
    assert engine_of(view).calls.total["search"] == 0
    assert lab.spool.submissions() in (["1-1"], [])
    assert any("takes nothing now: fake-submit: the limit of 10" in text for text in said(view))


@pytest.mark.parametrize("strict", ["false", "true"])
async def test_unknown_keys_are_left_out_with_a_word_or_are_for_the_dialect(
    lab: BatchLab, monkeypatch: pytest.MonkeyPatch, strict: str
) -> None:
    monkeypatch.setattr(FakeDialect, "backend_keys", frozenset({"known"}))
    view = await lab.open(strict=strict)
    attempts = [asking(view.shell("true"), backend=(("known", "1"), ("unknown", "2"))) for _ in range(2)]
    await view.submit(*attempts)
    for attempt in attempts:
        await view.outcome(attempt)
    words = [text for text in said(view) if "'unknown'" in text]
    assert len(words) == (strict == "false")
    assert lab.cluster.rows()[0].extra == ({"known": "1"} if strict == "false" else {"known": "1", "unknown": "2"})


async def test_trouble_with_the_files_is_lived_through(lab: BatchLab, monkeypatch: pytest.MonkeyPatch) -> None:
    view = await lab.open()
    listed, times = Spool.news, iter(range(3))

    def stale(self: Spool) -> list[str]:
        if next(times, None) is not None:
            raise OSError(errno.ESTALE, "Stale file handle")
        return listed(self)

    monkeypatch.setattr(Spool, "news", stale)
    outcome, reads = Spool.outcome, iter(range(2))

    def unread(self: Spool, ticket: Ticket) -> Outcome | None:
        if next(reads, None) is not None:
            raise OSError(errno.EIO, "Input/output error")
        return outcome(self, ticket)

    monkeypatch.setattr(Spool, "outcome", unread)
    monkeypatch.setattr(engine_of(view).watch, "_look", _nothing_changes)  # which would have its outcome read, too
    assert (await view.run_one(view.shell("true"))).reason == Reason.FINISHED
    assert len([text for text in said(view) if "Stale file handle" in text]) == 1
    assert len([text for text in said(view) if "Input/output error" in text]) == 1


async def _nothing_changes(_: object) -> bool:
    return False


async def test_an_outcome_that_cannot_be_read_is_that(lab: BatchLab) -> None:
    view = await lab.open()
    lab.cluster.set(paused=True)
    attempt = view.shell("true")
    await view.submit(attempt)
    await view.standing(attempt)
    Path(lab.spool.path("news", "1-1.1.done")).write_bytes(b"\xc1")
    assert (await view.outcome(attempt)).reason == Reason.PARTITION


async def test_runs_share_one_watch(lab: BatchLab) -> None:
    first = await lab.open()
    (adapter,) = lab.adapters
    info = msgspec.structs.replace(lab.info(), run="other")
    second = View(lab, await adapter.open(info), "other")  # type: ignore[arg-type]
    lab.views.append(second)
    await second.session.find([])
    lab.cluster.set(paused=True)
    attempts = [view.shell("true") for view in (first, second) for _ in range(2)]
    await first.submit(*attempts[:2])
    await second.submit(*attempts[2:])
    await first.standing(attempts[0])
    await second.standing(attempts[2])
    assert engine_of(first) is engine_of(second)
    asked = engine_of(first).calls.total["look"]
    boards = [session_of(view)._board for view in (first, second)]
    await until(lambda: all(task.seen for board in boards for task in board.tasks.values()))
    assert engine_of(first).calls.total["look"] <= asked + 2
    await first.close()  # whose attempts go on, and nobody here hears of them
    lab.cluster.set(paused=False)
    for attempt in attempts[2:]:
        assert (await second.outcome(attempt)).reason == Reason.FINISHED
    assert not first.outcomes


async def test_services_are_told_to_stop_before_they_are_handed_over_too(lab: BatchLab) -> None:
    view = await lab.open()
    await view.session.limit(1, 0, 0)
    lab.cluster.set(paused=True)
    attempts = [view.shell("true") for _ in range(2)]
    await view.submit(*attempts)
    await view.standing(attempts[0])
    await view.session.stop_services([attempt.key for attempt in attempts])
    await until(lambda: lab.spool.asked_to_stop(Ticket("1-1", 1)))
    lab.cluster.set(paused=False)
    await view.standing(attempts[1])
    assert lab.spool.asked_to_stop(Ticket("1-2", 1))


async def test_what_had_begun_and_was_never_heard_of_again_is_missing(
    lab: BatchLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of its submission is lost; before anybody can ask, its node dies, and it is forgotten."""
    monkeypatch.setattr("orch.adapters.batch.handing.SURELY_VISIBLE", 0.2)
    monkeypatch.setattr("orch.adapters.batch.engine.ORPHANS_AFTER", (0.2,))
    view = await lab.open(missing_after="1s", call_timeout="5s")
    lab.cluster.set(lose_next="hang")
    there = Signal(tmp_path / "there")
    attempt = view.shell(f"echo -n x > {there.path}; sleep 1000")
    await view.submit(attempt)
    await there.wait()
    there.close()
    row = lab.cluster.rows()[0]
    lab.cluster.lose_node(row.host)
    await asyncio.to_thread(lab.cluster.wait, over)
    lab.cluster.fault("forget", row.job)
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.MISSING
    assert "forgotten" in outcome.message


async def test_what_runs_shows_on_any_host_what_it_has_written(lab: BatchLab, tmp_path: Path) -> None:
    view = await lab.open()
    there = Signal(tmp_path / "there")
    attempt = view.shell(f"echo out; echo err >&2; echo -n x > {there.path}; sleep 1000")
    store = str(lab.store.root)
    assert written(store, "run", attempt.key) is None
    await view.submit(attempt)
    await there.wait()
    there.close()
    assert written(store, "run", attempt.key) == (b"out\n", b"err\n")
    assert written(store, "another", attempt.key) is None


async def test_what_waits_for_its_turn_to_be_handed_over_is_known(lab: BatchLab, tmp_path: Path) -> None:
    """Else it would be handed over twice, by whoever asks for it meanwhile, and run twice."""
    view = await lab.open()
    lab.cluster.set(down=True)
    attempts = [asking(writes(view, tmp_path / f"ran{cores}"), cores=float(cores)) for cores in range(1, 5)]
    attempts += [writes(view, tmp_path / "more", walltime=1000.0 + number) for number in range(4)]
    await view.submit(*attempts)
    await until(lambda: len(lab.spool.submissions()) == handing.AT_ONCE)
    await view.session.find([attempt.key for attempt in attempts], 2)
    for attempt in attempts:
        assert isinstance(await view.standing(attempt), Queued)
    await view.submit(*attempts)
    await view.session.stop_services([attempts[-1].key])
    await view.session.cancel([attempts[-2].key])
    assert (await view.outcome(attempts[-2])).reason is Reason.KILLED
    lab.cluster.set(down=False)
    for attempt in attempts:
        await view.outcome(attempt)
    assert [(tmp_path / f"ran{cores}").read_text() for cores in range(1, 5)] == ["1\n", "2\n", "3\n", "4\n"]
    assert sorted((tmp_path / "more").read_text().split()) == ["5", "6", "8"]


async def test_a_question_while_another_is_looked_into_is_answered(
    lab: BatchLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not known yet is not said to be there: an answer to the first question would not count any more."""
    monkeypatch.setattr("orch.adapters.batch.adopting.SURELY_VISIBLE", 0.2)
    first = await lab.open()
    lab.cluster.set(down=True)
    attempt = writes(first, tmp_path / "ran")
    await first.submit(attempt)
    await until(lambda: lab.spool.submissions() == ["1-1"] and Path(lab.spool.path("orders", "1-1.sh")).exists())
    await lab.die(first)
    second = await lab.open(2, find=[attempt.key])
    await until(lambda: "1-1" in session_of(second)._board.submissions)
    await second.session.find([attempt.key], 2)
    lab.cluster.set(down=False)
    assert await second.standing(attempt) == Unknown(attempt.key, 2)
    second.updates.clear()
    assert (await second.run_one(attempt)).reason == Reason.FINISHED
    assert (tmp_path / "ran").read_text() == "1\n"
