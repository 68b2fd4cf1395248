"""A job again, in the foreground, from copies: nothing of its run changes, whatever it does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from flows import debugged
from support.command import ORCH, orch
from support.handmade import created, write_run

import orch as api
from orch.bus import events as ev
from orch.cli.main import main as command


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which one job has failed."""
    root = tmp_path_factory.mktemp("debug")
    with pytest.raises(api.RunFailed):
        api.run(debugged.main, where=str(root), store=root / "s", run_id="r", settings={"retry_backoff": 0})
    (root / "deferred").unlink()
    return root / "s"


def picture(store: Path) -> dict[str, tuple[int, bytes]]:
    """Everything that belongs to the run, byte for byte."""
    files = [path for part in ("runs", "bundles") for path in (store / part).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def debug(store: Path, *args: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """`orch debug`, which must change nothing and leave nothing."""
    before = picture(store)
    temporary = store.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    done = subprocess.run(
        [*ORCH, "debug", "--store", str(store), *args],
        input=typed,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert picture(store) == before
    assert list(temporary.iterdir()) == []
    return done


def test_what_it_returns(store: Path) -> None:
    done = debug(store, "count")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "counting\n{'words': 4, 'bytes': 100000, 'attempt': 1}\n"
    assert "== calls count(FileRef(" in done.stderr
    assert "== runs what it deferred" in done.stderr
    assert (store.parent / "deferred").exists()


def test_what_it_raises(store: Path) -> None:
    done = debug(store, "r", "broken")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "attempt 2, of run r: again" in done.stderr
    assert "return counted[missing]" in done.stderr
    assert "== ended as FAILED after" in done.stderr
    assert "KeyError: 'no such key'" in done.stderr


def test_an_earlier_attempt(store: Path) -> None:
    assert "attempt 1, of run r" in debug(store, "broken", "--attempt", "1").stderr
    done = debug(store, "broken", "--attempt", "3")
    assert done.returncode == 2
    assert "has had 2 attempts" in done.stderr


def test_what_it_writes_stays_in_the_copy(store: Path) -> None:
    done = debug(store, "text")
    assert "FileRef(name='words.txt'" in done.stdout
    assert "== wrote words.txt (18 B), into the copy of the store" in done.stderr
    assert "== notes words = 3" in done.stderr


def test_jobs_that_it_makes_do_not_run(store: Path) -> None:
    done = debug(store, "fan")
    assert done.stdout == "[<job double(0)>, <job double(1)>]\n"
    assert "== made jobs, which do not run here: double(0), double(1)" in done.stderr


def test_a_program(store: Path) -> None:
    done = debug(store, "program")
    assert (done.returncode, done.stdout) == (1, "said\n")
    assert "exit code 3" in done.stderr
    done = debug(store, "--pdb", "program")
    assert done.returncode == 2
    assert "a debugger for Python cannot help" in done.stderr


@pytest.mark.parametrize(("job", "variable"), [("count", "data"), ("double(1)", "number"), ("Sorted", "self.numbers")])
def test_a_debugger_at_the_first_line(store: Path, job: str, variable: str) -> None:
    done = debug(store, "--pdb", job, typed=f"p type({variable}).__name__ + ' is there'\nc\n")
    assert done.returncode == 0, done.stderr
    assert "is there'" in done.stdout


def test_what_came_from_a_service_may_be_stale(store: Path) -> None:
    done = debug(store, "ask")
    assert done.stdout == "'echo://here/ask'\n"
    assert "the credentials of Echo() [" in done.stderr
    assert "may be stale: the service is not started here" in done.stderr


def test_a_service_runs_until_it_is_interrupted(store: Path) -> None:
    """As from a terminal: Ctrl-C goes to the command and to what it has started."""
    process = subprocess.Popen(
        [*ORCH, "debug", "--store", str(store), "Echo"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stderr is not None
        before = []
        for line in process.stderr:
            if line == "== the service is up\n":
                os.killpg(process.pid, signal.SIGINT)
                break
            before.append(line)
        assert "== a service: Ctrl-C stops it\n" in before
        assert "== returned after" in process.stderr.read()
        assert process.wait(60) == 0


def test_a_debugger_where_it_raises(store: Path) -> None:
    done = debug(store, "--pdb", "broken", typed="c\np 'post mortem: ' + missing\nq\n")
    assert done.returncode == 1
    assert "'post mortem: no such key'" in done.stdout


def test_a_debugger_that_is_left(store: Path) -> None:
    """That is no mistake, so there is no traceback, and it is said once."""
    done = debug(store, "--pdb", "count", typed="q\n")
    assert done.returncode == 1
    assert done.stderr.count("the debugger was left") == 1
    assert "Traceback" not in done.stderr
    assert "sys.exit" not in done.stderr


def test_a_job_whose_inputs_are_not_known(store: Path) -> None:
    done = debug(store, "after")
    assert done.returncode == 2
    assert "cannot run yet, it is skipped: the values of broken(…) [" in done.stderr


def test_a_stand_alone_reproduction(store: Path, tmp_path: Path) -> None:
    """It works where there is no store and no run, and as often as one likes."""
    archive = tmp_path / "out.tar.gz"
    before = picture(store)
    assert orch("debug", "--store", store, "--bundle", archive, "count", cwd=tmp_path).returncode == 0
    assert picture(store) == before
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "elsewhere", filter="data")
    (there,) = (tmp_path / "elsewhere").iterdir()
    assert sorted(os.listdir(there)) == ["README.md", "attempt.json", "run.py", "store"]
    moved = store.rename(store.parent / "moved")
    try:
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, there / "run.py"], cwd="/", capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout == "counting\n{'words': 4, 'bytes': 100000, 'attempt': 1}\n"
    finally:
        moved.rename(store)
    assert "It needs Python" in (there / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "c"], "name a job, or a run and a job"),
        (["--bundle", "x.tgz", "--pdb", "1"], "--pdb has nothing to do"),
        (["2"], "has no body: it only holds other jobs together"),
        (["1"], "the code of the run is not in the store any more"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    jobs = [ev.Added(job=1, kind="one"), ev.Added(job=2, kind="two", form="group")]
    write_run(tmp_path, "r", [created("r"), *jobs, ev.Planned(count=2)])
    assert command(["debug", "--store", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_archive_that_cannot_be_written(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["debug", "--store", str(store), "--bundle", str(tmp_path / "no" / "x.tgz"), "text"]) == 2
    assert "x.tgz cannot be written" in capsys.readouterr().err


def test_an_archive_that_lacks_a_file(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "s"
    shutil.copytree(store, copy)
    shutil.rmtree(copy / "runs" / "r" / "files")
    assert command(["debug", "--store", str(copy), "--bundle", str(tmp_path / "x.tgz"), "count"]) == 0
    said = capsys.readouterr().err
    assert "a file that the job may read is not in the store any more" in said
    assert "needs, but for what is missing, is in" in said
