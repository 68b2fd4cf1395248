"""What the engine of batch systems does with a cluster of real processes: lost answers, restarts, ends of all kinds."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.agents import PATIENCE, Signal
from support.batchlab import BatchLab, asking, ends, engine_of, said, session_of, writes

from orch.adapters.batch import board
from orch.adapters.batch.adapter import BatchAdapter
from orch.adapters.contract import Said, Unknown
from orch.attempt import Reason
from orch.errors import Fenced, UserError
from orch.testing.cluster.client import Row
from orch.testing.cluster.dialect import FakeDialect


@pytest_asyncio.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BatchLab]:
    monkeypatch.setattr(board, "PATIENCE", 0.5)
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


async def test_an_answer_that_was_lost_is_found_by_name(lab: BatchLab, tmp_path: Path) -> None:
    view = await lab.open()
    lab.cluster.set(lose_next="fail")
    attempt = writes(view, tmp_path / "ran")
    assert (await view.run_one(attempt)).reason == Reason.FINISHED
    assert (tmp_path / "ran").read_text() == "1\n"
    assert lab.cluster.counts()["submit"] == 1


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


async def test_what_was_given_up_does_nothing_when_it_starts_after_all(lab: BatchLab, tmp_path: Path) -> None:
    """A leader dies before the answer of its submission; the next one does not find it, and hands over again."""
    first = await lab.open()
    lab.cluster.set(down=True)
    attempt = writes(first, tmp_path / "ran")
    await first.submit(attempt)
    await until(lambda: lab.spool.submissions() == ["1-1"] and Path(lab.spool.path("orders", "1-1.sh")).exists())
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


async def test_the_next_leader_hears_of_what_runs_and_of_what_has_ended(lab: BatchLab, tmp_path: Path) -> None:
    first = await lab.open()
    there, hold = Signal(tmp_path / "there"), Signal(tmp_path / "hold")
    short = first.shell("exit 3")
    long = first.shell(f"echo -n x > {there.path}; head -c1 < {hold.path}; exit 4")
    await first.submit(short, long)
    await there.wait()
    await until(lambda: any(name.endswith(".done") for name in lab.spool.news()))
    await lab.die(first)
    second = await lab.open(2, find=[short.key, long.key])
    assert (await second.started(long)).host
    assert (await second.outcome(short)).exit_code == 3
    Path(hold.path).write_bytes(b"x")
    assert (await second.outcome(long)).exit_code == 4
    assert lab.cluster.counts()["submit"] == 1
    there.close()
    hold.close()


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


async def test_what_is_cancelled_in_the_queue_has_ended_at_once_and_goes(lab: BatchLab) -> None:
    view = await lab.open()
    lab.cluster.set(paused=True)
    attempt = view.shell("true")
    await view.submit(attempt)
    await view.standing(attempt)
    await view.session.cancel([attempt.key])
    assert (await view.outcome(attempt)).reason == Reason.KILLED
    await asyncio.to_thread(lab.cluster.wait, over)
    await until(lambda: not lab.spool.submissions())


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


@pytest.mark.parametrize("refused", ["no such queue"])
async def test_a_refusal_is_the_end_of_an_attempt_that_never_began(lab: BatchLab, refused: str) -> None:
    view = await lab.open()
    lab.cluster.set(refuse_next=refused)
    outcome = await view.run_one(view.shell("true"))
    assert (outcome.reason, outcome.exit_code) == (Reason.ERROR, None)
    assert refused in outcome.message


async def test_why_a_worker_cannot_begin_is_said(lab: BatchLab) -> None:
    view = await lab.open(python="/nowhere/python")
    outcome = await view.run_one(view.shell("true"))
    assert outcome.reason == Reason.ERROR
    assert "/nowhere/python" in outcome.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("oom", Reason.MEMLIMIT), ("preempt", Reason.PREEMPTED), ("cancel", Reason.FAILED), ("node", Reason.LOST)],
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


async def test_nonsense_delays_and_is_said_once(lab: BatchLab) -> None:
    view = await lab.open()
    attempt = view.shell("sleep 1")
    await view.submit(attempt)
    await view.standing(attempt)
    lab.cluster.set(nonsense="<html>")
    assert (await view.outcome(attempt)).reason == Reason.FINISHED  # its files say so
    late = view.shell("exit 5")
    await view.submit(late)
    await view.until(lambda update: isinstance(update, Said))
    lab.cluster.set(nonsense="")
    assert (await view.outcome(late)).exit_code == 5
    assert sum("does not answer" in text for text in said(view)) <= 3  # one of each kind: look, submit, search


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


async def test_to_submit_again_is_harmless(lab: BatchLab, tmp_path: Path) -> None:
    view = await lab.open()
    attempt = writes(view, tmp_path / "ran", "sleep 0.3")
    await view.submit(attempt)
    await view.submit(attempt)
    await view.standing(attempt)
    await view.submit(attempt)
    await view.outcome(attempt, acknowledge=False)
    await view.submit(attempt)
    await until(lambda: not session_of(view)._handing.waiting)
    assert (tmp_path / "ran").read_text() == "1\n"
    assert ends(view, attempt) >= 1


async def test_where_the_programs_are_missing_the_user_is_told(lab: BatchLab) -> None:
    info = lab.info()
    info.options["fake-cluster"] = "/nowhere"
    with pytest.raises(UserError, match=r"/nowhere/bin/fake-nodes.*--adapter"):
        await BatchAdapter("fake", FakeDialect).open(info)
