"""The script that a batch system is given, run by /bin/sh as it would run it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import PATIENCE
from support.nodes import Batch, until

from orch.attempt import Reason
from orch.worker.script import worker_script
from orch.worker.spool import Ticket


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    root = tmp_path / "Größe 'n\" $HOME `date`\necho no"
    root.mkdir()
    found = Batch(root, run="läuft 'so'")
    yield found
    found.end()


def written(batch: Batch, submission: str, **given: object) -> str:
    """Its path."""
    text = worker_script(str(batch.store.root), batch.run, submission, **given)  # type: ignore[arg-type]
    return batch.spool.write_script(submission, text)


def started(batch: Batch, *argv: str, **env: str) -> subprocess.Popen[bytes]:
    """A batch system starts it in an environment of its own, and in some directory."""
    worker = subprocess.Popen(
        argv, env={**batch.login, **env}, cwd=batch.root, stderr=subprocess.PIPE, start_new_session=True
    )
    batch.workers.append(worker)
    return worker


def over(worker: subprocess.Popen[bytes]) -> tuple[int, str]:
    said = worker.communicate(timeout=PATIENCE)[1]
    return worker.returncode, said.decode()


def test_a_single_task(batch: Batch) -> None:
    batch.login |= {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere"}
    submission = batch.order(batch.shell("echo done"))
    path = written(batch, submission, job="JOB", index="INDEX")
    assert over(started(batch, path, JOB="17", INDEX="undefined")) == (0, "")
    assert batch.outcome_of(submission).stdout.data == b"done\n"
    claim = batch.spool.claimed(Ticket(submission, 1))
    assert claim is not None
    assert claim.job == "17"


def test_the_number_of_a_task_comes_in_a_variable_or_as_an_argument(batch: Batch) -> None:
    submission = batch.order(batch.shell("echo 1"), batch.shell("echo 2"))
    path = written(batch, submission, size=2, index="INDEX")
    assert over(started(batch, "/bin/sh", path, INDEX="2")) == (0, "")
    path = written(batch, submission, size=2)
    assert over(started(batch, "/bin/sh", path, "1")) == (0, "")
    assert [batch.outcome_of(submission, task).stdout.data for task in (1, 2)] == [b"1\n", b"2\n"]


def test_signals_reach_the_worker(batch: Batch) -> None:
    submission = batch.order(batch.shell("echo up; exec sleep 3600"))
    worker = started(batch, "/bin/sh", written(batch, submission))
    until(lambda: batch.spool.started(Ticket(submission, 1)))
    worker.terminate()
    assert over(worker) == (0, "")
    assert batch.outcome_of(submission).reason is Reason.KILLED


def test_another_interpreter_and_what_it_needs(batch: Batch) -> None:
    """Its path may hold anything, and its libraries may be where only the leader's environment says."""
    python = Path(batch.root, "python 'of mine'")
    python.write_text(
        f'#!/bin/sh\necho "$LD_LIBRARY_PATH" >&2\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8"
    )
    python.chmod(0o755)
    submission = batch.order(batch.shell("true"))
    libraries = {"LD_LIBRARY_PATH": "/opt/a lib:/opt/b", "SECRET_TOKEN": "not here"}
    path = written(batch, submission, python=str(python), environment=libraries)
    assert "not here" not in Path(path).read_text(encoding="utf-8")
    assert over(started(batch, path)) == (0, "/opt/a lib:/opt/b\n")
    assert batch.outcome_of(submission).reason is Reason.FINISHED


def test_an_interpreter_that_is_not_there_is_named(batch: Batch) -> None:
    submission = batch.order(batch.shell("true"))
    code, said = over(started(batch, written(batch, submission, python="/nowhere/python")))
    assert code == 127
    assert "/nowhere/python" in said


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    root.mkdir()
    batch = Batch(root)
    submission = batch.order(batch.shell("echo done"), store="not looked at")
    assert over(started(batch, written(batch, submission))) == (0, "")
    assert batch.outcome_of(submission).stdout.data == b"done\n"
    batch.end()
