"""The place of a new run in the store, and whose it is while the run has no log."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import orch
from support.handmade import created, write_run

from orch.bus.lock import RunLock
from orch.errors import RunExists
from orch.leader.reserve import is_unborn, reserved
from orch.store.file import FileStore

FLOW = "import orch\n\n@orch.job\ndef one():\n    return 1\n\n@orch.workflow\ndef main():\n    return one()\n"
DIES = "import os, signal\n\nimport orch\n\n@orch.workflow\ndef main():\n    os.kill(os.getppid(), signal.SIGKILL)\n"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    found = FileStore(tmp_path / "s")
    found.create()
    return found


def test_a_leader_that_is_killed_while_it_plans_leaves_the_name_free(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    (tmp_path / "wf.py").write_text(FLOW)
    killed = orch("run", "--run-id", "r", "dies.py", cwd=tmp_path)
    assert killed.returncode != 0
    assert is_unborn(FileStore(tmp_path / ".orch"), "r")
    done = orch("run", "--run-id", "r", "wf.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert not (tmp_path / ".orch" / "runs" / "r" / "planning").exists()


def test_what_is_in_the_making_is_left_alone(store: FileStore) -> None:
    with reserved(store, "r"):
        made = store.local_path("runs/r/planning")
        made.mkdir()
        with pytest.raises(RunExists, match=f"being begun by process {os.getpid()} on .*; choose another"):
            reserved(store, "r").__enter__()
        assert made.is_dir()


def test_of_many_at_once_one_gets_it(store: FileStore) -> None:
    store.local_path("runs/r/planning").mkdir(parents=True)
    code = (
        "import sys\nfrom orch.errors import RunExists\nfrom orch.leader.reserve import reserved\n"
        "from orch.store.file import FileStore\nsys.stdin.readline()\ntry:\n"
        f"    with reserved(FileStore({str(store.root)!r}), 'r'):\n        print('mine', flush=True)\n"
        "        sys.stdin.readline()\nexcept RunExists:\n    print('taken', flush=True)\n"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for each in several:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    answers = [each.stdout.readline().strip() for each in several if each.stdout is not None]
    for each in several:
        each.communicate()
    assert sorted(answers) == ["mine", "taken", "taken", "taken"]


class _Fails(Exception):
    """Whatever it is that goes wrong."""


def test_what_fails_leaves_nothing(store: FileStore) -> None:
    with contextlib.suppress(_Fails), reserved(store, "r") as lock:
        lock.release()  # as who cannot write the log does
        raise _Fails
    assert not store.exists("runs/r")


def test_a_name_that_somebody_has_taken_over_is_not_removed(store: FileStore) -> None:
    other = RunLock(store.local_path("runs/r/lock"))
    with contextlib.suppress(_Fails), reserved(store, "r") as lock:
        lock.release()
        other.acquire()
        raise _Fails
    assert store.local_path("runs/r").is_dir()
    other.release()


def test_what_somebody_else_has_put_there_is_not_removed(store: FileStore) -> None:
    store.local_path("runs/r").mkdir(parents=True)
    store.local_path("runs/r/notes").touch()
    with pytest.raises(RunExists):
        reserved(store, "r").__enter__()
    assert store.local_path("runs/r/notes").exists()


def test_a_run_without_jobs_is_not_to_be_carried_on(store: FileStore) -> None:
    write_run(store.root, "r", [created("r")])
    with pytest.raises(RunExists, match=r"interrupted before its first jobs were recorded.*orch clean r") as caught:
        reserved(store, "r").__enter__()
    assert "orch replay" not in str(caught.value)
