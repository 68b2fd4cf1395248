"""What workers leave on their nodes: nothing, whoever was killed, and whoever comes last."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import helpers
from support.agents import PATIENCE
from support.nodes import Batch, ended, until

from orch.agent.paths import host_name
from orch.attempt import Reason
from orch.store.private import make_private
from orch.worker.locks import try_lock
from orch.worker.nodes import make_and_lock


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    found = Batch(tmp_path)
    yield found
    found.end()


def killed(batch: Batch, submission: str, said: Path) -> None:
    """A worker all of whose processes are killed once its attempt has written a file."""
    worker = batch.start(submission)
    until(said.exists)
    kill_all(batch, worker)


def kill_all(batch: Batch, worker: subprocess.Popen[bytes]) -> None:
    found = batch.marked()
    for number in (signal.SIGSTOP, signal.SIGKILL):  # else one of them mends what befalls another
        for pid in found:
            os.kill(pid, number)
    worker.wait(PATIENCE)
    until(lambda: not batch.marked())


def test_what_a_killed_worker_leaves_the_next_one_of_its_run_removes(batch: Batch, tmp_path: Path) -> None:
    submission = batch.order(batch.shell(f"touch rubbish '{tmp_path}/said'; exec sleep 3600"))
    killed(batch, submission, tmp_path / "said")
    assert [name for name in batch.left_on_node() if name.endswith("/rubbish")]
    batch.run_here(batch.shell("true"))
    assert batch.left_on_node() == []


def test_what_others_use_stays(batch: Batch, tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    submission = batch.order(batch.shell(f"touch mine '{tmp_path}/said'; cat '{held}'; ls"))
    worker = batch.start(submission)
    until((tmp_path / "said").exists)
    batch.run_here(batch.shell("true"))
    held.write_text("go on\n", encoding="utf-8")
    assert ended(worker) == (0, "")
    assert batch.outcome_of(submission).stdout.data == b"go on\nmine\n"
    assert batch.left_on_node() == []


def test_many_at_once_leave_nothing_and_do_not_hinder_each_other(batch: Batch) -> None:
    """They make and remove the same directories."""
    submission = batch.order(*(batch.shell("touch rubbish") for _ in range(12)))
    workers = [batch.start(submission, str(task)) for task in range(1, 13)]
    assert [ended(worker) for worker in workers] == [(0, "")] * 12
    assert {batch.outcome_of(submission, task).reason for task in range(1, 13)} == {Reason.FINISHED}
    assert batch.left_on_node() == []
    assert os.listdir(batch.spool.root).count("deferred") == 0


def test_a_work_directory_that_was_given(batch: Batch, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    outcome = batch.run_here(batch.shell("pwd"), work_dir=str(work))
    assert outcome.stdout.data.startswith(os.fsencode(work))
    assert work.is_dir()
    assert list(work.iterdir()) == []
    work.chmod(0o777)
    outcome = batch.run_here(batch.shell("pwd"), work_dir=str(work))
    assert outcome.reason is Reason.ERROR
    assert "can be written to by all users" in outcome.message


def test_a_scratch_directory_is_kept_where_an_agent_keeps_it(batch: Batch) -> None:
    submission = batch.order(batch.shell("echo kept >file; exit 1", clean_scratch="on-success"))
    assert ended(batch.start(submission)) == (0, "")
    [note] = batch.notes_of(submission)
    kept = Path(str(note.value))
    assert (kept / "file").read_text(encoding="utf-8") == "kept\n"
    assert kept.parent.name == "kept"
    assert kept.parent.parent.parent.name == host_name()


def test_directories_are_private(batch: Batch) -> None:
    outcome = batch.run_here(batch.shell("while [ $PWD != / ]; do stat -c '%a %n' $PWD; cd ..; done"))
    modes = [line.split(" ", 1) for line in outcome.stdout.data.decode().splitlines()]
    own = [mode for mode, path in modes if path.startswith(f"{batch.tmp}/")]
    assert own
    assert set(own) == {"700"}


# Deferred functions -----------------------------------------------------------------------------------------------


def test_what_is_deferred_is_done_before_the_outcome_is_there(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    outcome = batch.run_here(batch.python(helpers.defers, str(path)))
    assert helpers.lines(path) == ["body", "one", "two", "three"]
    assert b"two failed" in outcome.stderr.data
    assert not Path(batch.spool.root, "deferred").exists()


def test_what_a_killed_worker_has_not_done_the_next_one_does(batch: Batch, tmp_path: Path) -> None:
    path, said = tmp_path / "lines", tmp_path / "said"
    submission = batch.order(batch.python(helpers.defers, str(path), str(said), "hang"))
    killed(batch, submission, said)
    assert helpers.lines(path) == ["body"]
    code, words = ended(batch.start(batch.order(batch.shell("true"))))
    assert code == 0
    assert "two failed" in words  # it is in the log of whoever did it
    assert helpers.lines(path) == ["body", "one", "two", "three"]
    assert not Path(batch.spool.root, "deferred").exists()


def test_what_a_living_one_has_deferred_is_its_own(batch: Batch, tmp_path: Path) -> None:
    path, said = tmp_path / "lines", tmp_path / "said"
    submission = batch.order(batch.python(helpers.defers, str(path), str(said), "hang"))
    worker = batch.start(submission)
    until(said.exists)
    batch.run_here(batch.shell("true"))
    assert helpers.lines(path) == ["body"]
    worker.terminate()
    assert ended(worker) == (0, "")
    assert helpers.lines(path) == ["body", "one", "two", "three"]


# Races -------------------------------------------------------------------------------------------------------------


def test_a_new_directory_that_was_taken_for_a_dead_one_s_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sweeps may come between its being made and its being locked."""
    path, real = tmp_path / "runtime", fcntl.flock
    swept: list[int] = []

    def flock(descriptor: int, how: int) -> None:
        if not swept:
            swept.append(descriptor)
            path.rmdir()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = make_and_lock(str(path))
    assert os.path.samestat(os.fstat(lock), path.stat())
    assert try_lock(str(path), os.O_RDONLY) == -1
    os.close(lock)


def test_a_directory_that_is_removed_while_one_is_made_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir
    times: list[str] = []

    def mkdir(path: str, mode: int) -> None:
        if path.endswith("c") and not times:
            times.append(path)
            os.rmdir(os.path.dirname(path))
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    make_private(str(tmp_path / "a" / "b" / "c"))
    assert times
    assert (tmp_path / "a" / "b" / "c").is_dir()
