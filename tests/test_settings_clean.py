"""`--clean`: a run that goes once it has ended, and a result that stays true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import orch

FLOW = """
import orch

@orch.job
def write(how):
    if how == "fail":
        raise ValueError(how)
    path = orch.context().scratch / "x.txt"
    path.write_text(how)
    return orch.context().write_file(path) if how == "file" else how

@orch.workflow
def main(how: str = "text"):
    return write(how)
"""


@pytest.mark.parametrize(
    ("when", "how", "kept"),
    [
        ("always", "text", False),
        ("always", "fail", False),
        ("on-success", "text", False),
        ("on-success", "fail", True),
        ("on-error", "text", True),
        ("on-error", "fail", False),
        ("never", "text", True),
    ],
)
def test_a_run_goes_once_it_has_ended(tmp_path: Path, when: str, how: str, kept: bool) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    done = orch("run", "--clean", when, "--run-id", "r", "wf.py", "--how", how, cwd=tmp_path)
    assert done.returncode == (1 if how == "fail" else 0), done.stderr
    assert ("ValueError: fail" if how == "fail" else '"text"') in done.stderr + done.stdout
    assert (tmp_path / ".orch" / "runs" / "r").exists() == kept
    assert (f"deleted run r (--clean {when})" in done.stderr) != kept
    assert ("look at it" in done.stderr) == (kept and how != "fail")


def test_files_that_were_exported_stay(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    done = orch("run", "--clean", "always", "--out", "o", "--run-id", "r", "wf.py", "--how", "file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)).read_text() == "file"
    assert not (tmp_path / ".orch" / "runs" / "r").exists()


def test_a_result_that_names_files_keeps_its_run(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    done = orch("run", "--clean", "always", "--run-id", "r", "wf.py", "--how", "file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)).read_text() == "file"
    assert "run r is kept, though --clean always was given: its result names files in it; see --out" in done.stderr


def test_what_was_said_at_the_beginning_holds_for_a_restart(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    assert orch("run", "--clean", "on-success", "--run-id", "r", "wf.py", "--how", "fail", cwd=tmp_path).returncode == 1
    (tmp_path / "wf.py").write_text(FLOW.replace('if how == "fail"', "if False"))
    again = orch("replay", "r", "--restart", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, '"fail"\n'), again.stderr
    assert not (tmp_path / ".orch" / "runs" / "r").exists()


def test_a_finished_run_can_be_cleaned_when_its_result_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    assert orch("run", "--run-id", "r", "wf.py", cwd=tmp_path).returncode == 0
    again = orch("replay", "r", "--restart", "--clean", "always", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, '"text"\n'), again.stderr
    assert not (tmp_path / ".orch" / "runs" / "r").exists()
