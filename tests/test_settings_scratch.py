"""`--clean-scratch`: which scratch directories are kept, where, and who says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.command import orch, status

FLOW = """
import os, signal, sys, time
import orch

def leave(how):
    (orch.context().scratch / "left.txt").write_text(how)
    if how == "fail":
        raise ValueError(how)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return how

@orch.job
def forked(how):
    return leave(how)

@orch.job(isolation="pool")
def pooled(how):
    return leave(how)

@orch.job(walltime="0.2s")
def slow(how):
    leave(how)
    while True:
        signal.pause()

@orch.job
def tidy():
    return None

@orch.workflow
def main(how: str = "good", late: bool = False):
    programs = [orch.command(["sh", "-c", f"echo > left.txt; test {how} = good"])]
    return [forked(how), pooled(how), tidy(), *programs, *([slow(how)] if late else [])]
"""


def kept(place: Path, *args: str) -> dict[str, Any]:
    """Runs the workflow; by name of the job, where its scratch directory is."""
    (place / "wf.py").write_text(FLOW)
    orch("run", "--run-id", "r", "--work-dir", "w", "--quiet", *args, cwd=place)
    jobs = status(place / ".orch", "r")["jobs"].values()
    assert {job["state"] for job in jobs} <= {"done", "failed", "skipped"}
    found = {job["kind"]: job["annotations"].get("scratch directory") for job in jobs}
    there = [path for path in (place / "w").glob("*/*/kept/*") if path.is_dir()]
    assert sorted(map(str, there)) == sorted(filter(None, found.values()))
    return {kind: (Path(where) / "left.txt").exists() for kind, where in found.items() if where}


ALL = {"forked": True, "pooled": True, "sh": True}


@pytest.mark.parametrize(
    ("when", "how", "expected"),
    [
        ("always", "fail", {}),
        ("on-success", "good", {}),
        ("on-success", "fail", ALL),
        ("on-success", "kill", ALL),
        ("on-error", "good", ALL),
        ("on-error", "fail", {}),
        ("never", "good", ALL),
        ("never", "fail", ALL),
    ],
)
def test_what_is_left_is_kept(tmp_path: Path, when: str, how: str, expected: dict[str, bool]) -> None:
    assert kept(tmp_path, "--clean-scratch", when, "wf.py", "--how", how) == expected


@pytest.mark.parametrize(("when", "expected"), [("on-success", ALL), ("on-error", {})])
def test_in_process(tmp_path: Path, when: str, expected: dict[str, bool]) -> None:
    assert kept(tmp_path, "--in-process", "--clean-scratch", when, "wf.py", "--how", "fail") == expected


def test_of_what_took_too_long(tmp_path: Path) -> None:
    assert kept(tmp_path, "--clean-scratch", "on-success", "wf.py", "--late") == {"slow": True}
