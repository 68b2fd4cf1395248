"""What a person at a terminal sees and does."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from support.command import ORCH, orch

from orch.cli.lead import _Ending, _heed_signals
from orch.cli.progress import is_terminal

ECHO = """
import os, time
import orch

@orch.job
def nap(seconds: float):
    time.sleep(seconds)
    return os.environ.get("ORCH_TEST_WORD", "")

@orch.workflow
def main(seconds: float = 1.5):
    return nap(seconds)
"""


def on_a_terminal(place: Path, *args: str) -> tuple[int, str, str]:
    """Run the command with stderr on a terminal. Gives exit code, stdout, and what the terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*ORCH, *args],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    ) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while part := os.read(ours, 65536):
                drawn += part
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    return process.returncode, out, drawn.decode()


def test_progress_is_drawn_and_erased(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(ECHO)
    code, out, drawn = on_a_terminal(tmp_path, "run", "--run-id", "r", "wf.py")
    assert (code, out) == (0, '""\n')
    assert "running  nap" in drawn
    assert "0 of 1 jobs done, 1 running" in drawn
    after = drawn[drawn.rindex("\x1b[2K") :]
    assert "running  nap" not in after
    assert "orch: run r succeeded: 1 of 1 jobs done" in after


def test_quiet_draws_nothing(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(ECHO)
    assert on_a_terminal(tmp_path, "run", "--quiet", "wf.py") == (0, '""\n', "")


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False), ("", False)])
def test_what_can_be_drawn_upon(monkeypatch: pytest.MonkeyPatch, term: str, drawn: bool) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    assert is_terminal() is drawn


def test_variables_reach_the_jobs_and_no_log(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(ECHO)
    done = orch(
        "run", "--quiet", "--run-id", "r", "--set-env", "ORCH_TEST_WORD=secret", "wf.py", "--seconds=0", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, '"secret"\n'), done.stderr
    segment = next((tmp_path / ".orch" / "runs" / "r" / "log").iterdir()).read_text()
    assert "ORCH_TEST_WORD" in segment
    assert "secret" not in segment
    again = orch("replay", "--restart", cwd=tmp_path)
    assert again.returncode == 0
    assert "the run was begun with --set-env ORCH_TEST_WORD, which is not set here" in again.stderr


class Stubborn:
    """A run that takes for ever to stop."""

    def __init__(self) -> None:
        self.asked = anyio.Event()

    async def stop(self) -> None:
        self.asked.set()
        await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGINT, signal.SIGTERM, 143),
        (None, signal.SIGTERM, 143),
        (None, signal.SIGHUP, 129),
    ],
)
async def test_leaving_at_once(
    first: signal.Signals | None, second: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ending, run = _Ending(), Stubborn()
    ending.run = cast("Any", run)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(_heed_signals, ending, tasks)
            if first is not None:
                os.kill(os.getpid(), first)
                await run.asked.wait()
            assert not ending.left
            os.kill(os.getpid(), second)
    assert ending.left == code
    assert ("Ctrl-C again" in capsys.readouterr().err) is (first is not None)


async def test_ctrl_c_before_the_run_has_begun() -> None:
    ending = _Ending()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(_heed_signals, ending, tasks)
            os.kill(os.getpid(), signal.SIGINT)
    assert ending.left == 130


def test_ctrl_c_while_planning_leaves_nothing(tmp_path: Path) -> None:
    text = "import time\nimport orch\n@orch.workflow\ndef main():\n    print('planning')\n    time.sleep(60)\n"
    (tmp_path / "wf.py").write_text(text)
    with subprocess.Popen(
        [*ORCH, "run", "wf.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "planning\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "interrupted before the run began" in err
    assert list((tmp_path / ".orch" / "runs").iterdir()) == []


def test_a_reader_of_the_result_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(ECHO)
    with subprocess.Popen(
        [*ORCH, "run", "--quiet", "wf.py", "--seconds", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_streams_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(ECHO)

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "ORCH": " ".join(ORCH), "PYTHONIOENCODING": "ascii", "ORCH_TEST_WORD": "ä"}
        return subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    done = shell("$ORCH run --quiet --name 'grün' wf.py --seconds 0")
    assert (done.returncode, done.stdout) == (0, '"\\u00e4"\n'), done.stderr
    listed = shell("$ORCH list")
    assert listed.returncode == 0
    assert "gr\\xfcn" in listed.stdout
    full = shell("$ORCH list > /dev/full")
    assert full.returncode == 6
    assert full.stderr.startswith("orch: No space left on device")
    assert full.stderr.count("\n") == 1
    closed = shell("$ORCH list >&- 2>&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
    silent = shell("$ORCH list nothing 2>&-")
    assert (silent.returncode, silent.stdout) == (2, "")
