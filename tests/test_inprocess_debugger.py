"""Breakpoints: in `orch run --in-process` for whoever sits at the terminal, and told elsewhere."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from pathlib import Path

import pytest
from support.command import ORCH, orch

BREAKPOINT = """
import orch

@orch.job
def look(x):
    y = x + 1
    breakpoint()
    return y

@orch.workflow
def main():
    return look(41)
"""


def test_breakpoints_are_for_whoever_sits_at_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT)
    ours, theirs = pty.openpty()
    arguments = [*ORCH, "run", "--in-process", "wf.py"]
    env = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(arguments, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        seen = _until(ours, b"(Pdb) ")
        assert f"{tmp_path}/wf.py(8)look()".encode() in seen  # the file itself, and no copy of it
        os.write(ours, b"y = 4711\nc\n")
        seen = _until(ours, b"succeeded")
        assert process.wait(60) == 0
        seen += _until(ours, b"no more of it comes")
    os.close(ours)
    assert b"4711" in seen.splitlines()


@pytest.mark.parametrize("options", [(), ("--in-process",)])
def test_a_breakpoint_where_nobody_can_type_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT)
    done = subprocess.run(
        [*ORCH, "run", *options, "wf.py"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED: breakpoint() has no terminal here: use orch run --in-process, or orch debug" in done.stderr
    assert f'{tmp_path}/wf.py", line 8, in look' in done.stderr


def test_nor_can_anybody_type_in_the_workflow_function(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT.replace("return look(41)", "breakpoint()\n    return look(41)"))
    done = orch("run", "wf.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "workflow main: breakpoint() has no terminal here: use orch run --in-process" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_debugger_that_is_left_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT)
    done = subprocess.run(
        [*ORCH, "run", "--in-process", "wf.py"],
        cwd=tmp_path,
        input="q\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED: the debugger was left" in done.stderr
    assert "Traceback" not in done.stderr


def _until(descriptor: int, wanted: bytes) -> bytes:
    """What a terminal shows up to `wanted`, or to its end."""
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], 60)[0], seen
        try:
            seen += os.read(descriptor, 65536)
        except OSError:  # EIO: the other side is closed
            break
    return seen.replace(b"\r\n", b"\n")
