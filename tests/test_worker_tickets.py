"""Tickets: that nothing runs twice, whatever a batch system starts, and how often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.nodes import Batch, ended, until

from orch.attempt import Attempt, Reason
from orch.worker.spool import Claim, Ticket

ONE = ("1", "--job-from", "JOB")


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    found = Batch(tmp_path)
    yield found
    found.end()


def counted(batch: Batch) -> Attempt:
    """Writes a line in a file beside the store each time that it runs."""
    return batch.shell(f"echo ran >>'{batch.root}/ran'; cat '{batch.root}/held'")


def times(batch: Batch) -> int:
    """How often that was."""
    path = batch.root / "ran"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.fixture
def held(batch: Batch) -> Path:
    """What is written here lets a counted attempt go on."""
    path = batch.root / "held"
    os.mkfifo(path)
    return path


def test_of_many_workers_one_runs_it(batch: Batch, held: Path) -> None:
    submission = batch.order(counted(batch))
    workers = [batch.start(submission, *ONE, env={"JOB": str(number)}) for number in range(20)]
    until(lambda: sum(each.poll() is not None for each in workers) == 19)
    assert {each.returncode for each in workers} == {0, None}
    held.write_text("go on\n", encoding="utf-8")
    said = [ended(each) for each in workers]
    assert [code for code, _ in said] == [0] * 20
    assert sum("is not run here" in words for _, words in said) == 19
    assert times(batch) == 1
    assert batch.outcome_of(submission).reason is Reason.FINISHED
    assert len(os.listdir(batch.spool.path("claims", ""))) == 1


def test_a_revoked_ticket_is_never_used(batch: Batch) -> None:
    submission = batch.order(counted(batch))
    assert batch.spool.revoke([Ticket(submission, 1)]) == {}
    code, said = ended(batch.start(submission))
    assert code == 0
    assert "its leader has it" in said
    assert times(batch) == 0
    assert batch.spool.outcome(Ticket(submission, 1)) is None


def test_tasks_of_an_array_find_their_own_attempt(batch: Batch) -> None:
    submission = batch.order(*(batch.shell(f"echo {number}") for number in (1, 2, 3)))
    words = ("--task-from", "INDEX", "--job-from", "JOB")
    workers = [batch.start(submission, *words, env={"INDEX": str(each), "JOB": f"9_{each}"}) for each in (3, 1, 2)]
    assert [ended(each) for each in workers] == [(0, "")] * 3
    assert [batch.outcome_of(submission, each).stdout.data for each in (1, 2, 3)] == [b"1\n", b"2\n", b"3\n"]
    claim = batch.spool.claimed(Ticket(submission, 3))
    assert claim is not None
    assert claim.job == "9_3"


def test_a_task_without_a_number_is_the_only_one(batch: Batch) -> None:
    """Grid Engine says "undefined" to what is no array."""
    submission = batch.order(batch.shell("true"))
    assert ended(batch.start(submission, "--task-from", "INDEX", env={"INDEX": "undefined"})) == (0, "")
    assert batch.outcome_of(submission).reason is Reason.FINISHED
    submission = batch.order(batch.shell("true"), batch.shell("true"))
    code, said = ended(batch.start(submission, "--task-from", "INDEX"))
    assert code == 70
    assert "INDEX is to say which of its tasks this is, and it says ''" in said


def test_what_the_batch_system_starts_again_has_been_lost(batch: Batch) -> None:
    """A requeued job: what it did in its former life was killed with its node."""
    os.mkfifo(batch.root / "held")
    submission = batch.order(counted(batch))
    first = batch.start(submission, *ONE, env={"JOB": "17"})
    until(lambda: times(batch))
    again = batch.start(submission, *ONE, env={"JOB": "17"})
    assert ended(again)[0] == 0
    assert batch.spool.outcome(Ticket(submission, 1)) is None  # it lives
    _kill_all(batch, first)
    assert ended(batch.start(submission, *ONE, env={"JOB": "18"}))[0] == 0
    assert batch.spool.outcome(Ticket(submission, 1)) is None  # another job knows nothing of it
    assert ended(batch.start(submission, *ONE, env={"JOB": "17"}))[0] == 0
    outcome = batch.outcome_of(submission)
    assert outcome.reason is Reason.LOST
    assert outcome.message.startswith("its batch system has started it again")
    assert outcome.key == "run.1.1"
    assert times(batch) == 1


def test_an_outcome_that_is_there_stays(batch: Batch) -> None:
    submission = batch.order(batch.shell("echo first"))
    for _ in range(2):
        assert ended(batch.start(submission, *ONE, env={"JOB": "17"}))[0] == 0
    assert batch.outcome_of(submission).stdout.data == b"first\n"


def test_what_is_ordered_no_more_does_not_run(batch: Batch) -> None:
    submission = batch.order(batch.shell("true"))
    batch.spool.clear([], [submission])
    code, said = ended(batch.start(submission))
    assert code == 70
    assert "its orders are not there" in said
    assert os.listdir(batch.spool.path("claims", "")) == []


def test_orders_that_are_nonsense(batch: Batch) -> None:
    submission = batch.order(batch.shell("true"))
    Path(batch.spool.path("orders", f"{submission}.orders")).write_bytes(b"\0\0\0\x05xxxxxxxx")
    code, said = ended(batch.start(submission))
    assert code == 70
    assert len(said.splitlines()) == 1
    assert "cannot be read" in said


def test_a_task_that_the_submission_does_not_have(batch: Batch) -> None:
    submission = batch.order(batch.shell("true"))
    code, said = ended(batch.start(submission, "2"))
    assert code == 70
    assert f"submission {submission} has no task 2" in said
    assert len(said.splitlines()) == 1


def test_a_signal_that_comes_first_keeps_it_from_claiming(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not even begin is not tried, and can be handed over again."""
    from orch.worker.serve import Front, Variables, serve

    submission = batch.order(batch.shell("true"))
    hear, say = os.pipe()
    os.write(say, bytes([signal.SIGTERM]))
    monkeypatch.chdir("/")
    assert serve(batch.spool, submission, 1, Variables(), Front(os.getpid(), hear)) == 70
    assert batch.spool.claimed(Ticket(submission, 1)) is None
    os.close(hear)
    os.close(say)


def test_what_keeps_it_from_being_run_is_its_outcome(batch: Batch) -> None:
    submission = batch.order(batch.shell("true"), work_dir="/proc/nowhere")
    assert ended(batch.start(submission)) == (0, "")
    outcome = batch.outcome_of(submission)
    assert outcome.reason is Reason.ERROR
    assert "the work directory /proc/nowhere cannot be used" in outcome.message


@pytest.mark.parametrize("words", [(), ("1", "--task-from", "X"), ("one",), ("0",), ("1", "--job-from")])
def test_words_that_it_does_not_know(batch: Batch, words: tuple[str, ...]) -> None:
    from orch.worker.__main__ import USAGE, main

    assert main([str(batch.store.root), "run", "1-1", *words]) == USAGE


def test_a_mistake_of_ours_is_in_the_log_and_not_taken_for_the_job_s() -> None:
    words = [sys.executable, "-P", "-c", "from orch.worker.front import leave; leave(lambda: 1 // 0)"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr


def test_a_claim_of_ours_whose_answer_was_lost_is_ours(batch: Batch) -> None:
    """A file server that has linked it, and is asked once more."""
    claim = Claim("worker", "host", 17, "job", "2026-01-01T00:00:00Z")
    assert batch.spool.claim(Ticket("1-1", 1), claim) is None
    assert batch.spool.claim(Ticket("1-1", 1), claim) is None
    assert batch.spool.claim(Ticket("1-1", 1), msgspec.structs.replace(claim, pid=18)) == claim


def _kill_all(batch: Batch, front: subprocess.Popen[bytes]) -> None:
    """As when a node goes down: nobody is left to say anything."""
    found = batch.marked()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in found:
            os.kill(pid, number)
    front.wait()
    until(lambda: not batch.marked())
