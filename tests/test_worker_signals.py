"""How workers end when a batch system wants it: with an outcome where they can, and with nothing left in any case."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import helpers, jobs
from support.agents import parent
from support.nodes import Batch, children_of, ended, kinds, until

from orch.agent import processes
from orch.attempt import Attempt, Outcome, Reason
from orch.worker.spool import Ticket

HARD = "trap '' TERM; echo up; while :; do sleep 3600; done"
"""A command that takes no notice of SIGTERM."""


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    found = Batch(tmp_path)
    yield found
    found.end()


def running(batch: Batch, attempt: Attempt, **changes: float) -> tuple[str, subprocess.Popen[bytes]]:
    """A submission whose attempt has written "up", and its worker."""
    submission = batch.order(attempt, **changes)
    worker = batch.start(submission)
    out = Path(batch.spool.path("output", f"{submission}.1.out"))
    until(lambda: out.exists() and out.read_bytes().startswith(b"up"))
    until(lambda: batch.spool.started(Ticket(submission, 1)))
    return submission, worker


def warned(batch: Batch, script: str, *numbers: signal.Signals, **changes: float) -> Outcome:
    """What is left of a command whose worker gets signals."""
    submission, worker = running(batch, batch.shell(script), **changes)
    for number in numbers:
        worker.send_signal(number)
    assert ended(worker) == (0, "")
    assert not batch.marked()
    assert batch.left_on_node() == []
    return batch.outcome_of(submission)


def test_a_signal_ends_the_attempt_and_is_its_cause(batch: Batch) -> None:
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2]
    found = [running(batch, batch.shell("echo up; exec sleep 3600")) for _ in numbers]
    for number, (_, worker) in zip(numbers, found, strict=True):
        worker.send_signal(number)
    for number, (submission, worker) in zip(numbers, found, strict=True):
        assert ended(worker) == (0, "")
        outcome = batch.outcome_of(submission)
        assert (outcome.reason, outcome.signal) == (Reason.KILLED, number)
        assert outcome.message == f"its batch system sent {number.name}"
        assert outcome.exit_code is None


def test_on_grid_engine_a_job_that_is_to_be_suspended_goes_on(batch: Batch, tmp_path: Path) -> None:
    """Its end is announced by another signal."""
    batch.login = {**batch.login, "SGE_TASK_ID": "undefined"}
    gate = tmp_path / "gate"
    submission, worker = running(batch, batch.shell(f"echo up; while ! [ -e '{gate}' ]; do sleep 0.05; done"))
    worker.send_signal(signal.SIGUSR1)
    gate.touch()
    assert ended(worker) == (0, "")
    assert batch.outcome_of(submission).reason is Reason.FINISHED
    submission, worker = running(batch, batch.shell("echo up; exec sleep 3600"))
    worker.send_signal(signal.SIGUSR2)
    assert ended(worker) == (0, "")
    assert batch.outcome_of(submission).signal == signal.SIGUSR2


def test_a_program_has_a_moment_to_clear_up_and_is_killed_then(batch: Batch) -> None:
    outcome = warned(batch, "trap 'echo cleared; exit 0' TERM; echo up; sleep 3600 & wait", signal.SIGTERM, grace=60.0)
    assert outcome.reason is Reason.KILLED  # it was told to end, whatever it makes of it
    assert outcome.stdout.data == b"up\ncleared\n"
    outcome = warned(batch, HARD, signal.SIGTERM, grace=0.1)
    assert outcome.reason is Reason.KILLED


def test_a_second_signal_hurries(batch: Batch) -> None:
    outcome = warned(batch, HARD, signal.SIGINT, signal.SIGTERM, grace=3600.0)
    assert (outcome.reason, outcome.signal) == (Reason.KILLED, signal.SIGINT)


def test_a_signal_to_all_processes_of_the_job_is_the_same(batch: Batch) -> None:
    """As Slurm sends it to all that its plugin for process tracking knows."""
    for attempt in (batch.shell("echo up; exec sleep 3600"), batch.python(helpers.say_up_and_hang)):
        submission, worker = running(batch, attempt)
        for pid in [worker.pid, *batch.marked()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert ended(worker) == (0, "")
        assert (batch.outcome_of(submission).reason, batch.outcome_of(submission).signal) == (Reason.KILLED, 15)


def test_a_python_body_and_a_service_are_ended_too(batch: Batch, tmp_path: Path) -> None:
    submission, worker = running(batch, batch.python(helpers.say_up_and_hang))
    worker.terminate()
    assert ended(worker) == (0, "")
    assert batch.outcome_of(submission).reason is Reason.KILLED
    said = tmp_path / "said"
    submission = batch.order(batch.python(helpers.service, str(said), form="service"))
    worker = batch.start(submission)
    until(lambda: "up" in kinds(batch.notes_of(submission)))
    worker.terminate()
    assert ended(worker) == (0, "")
    assert batch.outcome_of(submission).reason is Reason.KILLED
    assert said.read_text(encoding="utf-8").split() == ["start", "stop"]


@pytest.mark.parametrize("how", ["group", "front and guardian"])
def test_nothing_survives_when_the_front_is_killed(batch: Batch, tmp_path: Path, how: str) -> None:
    """Batch systems that know no more than a process group; what its attempt has started has left that in all ways."""
    said = tmp_path / "said"
    submission = batch.order(batch.python(jobs.scatter, str(said), kwargs={"executed": how == "group"}))
    front = batch.start(submission)
    until(lambda: said.exists() and said.read_text(encoding="utf-8"))
    if how == "group":
        os.killpg(front.pid, signal.SIGKILL)
    else:
        for pid in (*children_of(front.pid), front.pid):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not batch.marked())
    assert not Path(f"/proc/{said.read_text(encoding='utf-8')}").exists()
    outcome = batch.outcome_of(submission)
    assert (outcome.reason, outcome.signal) == (Reason.KILLED, signal.SIGKILL)
    assert outcome.message == "its batch system killed it"
    assert batch.left_on_node() == []


@pytest.mark.parametrize("which", ["guardian", "worker"])
def test_nothing_survives_when_one_of_its_processes_is_killed(batch: Batch, tmp_path: Path, which: str) -> None:
    said = tmp_path / "said"
    submission = batch.order(batch.python(jobs.scatter, str(said), kwargs={"executed": True}))
    front = batch.start(submission)
    until(lambda: said.exists() and said.read_text(encoding="utf-8"))
    [guardian] = children_of(front.pid)
    [worker] = children_of(guardian)
    assert parent(worker) == guardian
    os.kill(guardian if which == "guardian" else worker, signal.SIGKILL)
    code, words = ended(front)
    assert (code, words) == (70, f"orch: the {which} was killed by signal 9\n")
    assert not batch.marked()
    assert not Path(f"/proc/{said.read_text(encoding='utf-8')}").exists()
    assert batch.spool.outcome(Ticket(submission, 1)) is None


def test_what_is_suspended_stops_and_goes_on(batch: Batch) -> None:
    """As Grid Engine suspends: it stops a process group, which the attempt is not in."""
    submission, front = running(batch, batch.shell("echo up; while :; do sleep 0.1; done"))
    started = batch.spool.started(Ticket(submission, 1))
    assert started is not None
    os.killpg(front.pid, signal.SIGSTOP)
    until(lambda: processes.is_stopped(started.pid))
    os.killpg(front.pid, signal.SIGCONT)
    until(lambda: not processes.is_stopped(started.pid))
    front.terminate()
    assert ended(front) == (0, "")


def test_what_a_killed_attempt_has_written_is_there(batch: Batch) -> None:
    submission, front = running(batch, batch.shell("echo up; echo words >&2; exec sleep 3600"))
    [guardian] = children_of(front.pid)
    for pid in [*children_of(guardian), guardian, front.pid]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not children_of(guardian))
    for pid in batch.marked():
        os.kill(pid, signal.SIGKILL)  # all three were killed, one by one, and so nobody is left to do it
    front.wait()
    assert Path(batch.spool.path("output", f"{submission}.1.err")).read_bytes() == b"words\n"
