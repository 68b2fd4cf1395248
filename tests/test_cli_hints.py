"""Commands that messages suggest find the store when they are typed as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.command import orch

from orch.hints import store_option
from orch.store.file import FileStore

FAILS = """
import orch

@orch.job
def bad():
    raise ValueError("bad")

@orch.workflow
def main():
    return bad()
"""


def test_the_default_store_needs_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCH_STORE", raising=False)
    assert store_option(FileStore(tmp_path / ".orch")) == ""
    assert store_option(FileStore(tmp_path / "it's")) == f" --store {shlex.quote(f'{tmp_path}/it' + chr(39) + 's')}"
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "given"))
    assert store_option(FileStore(tmp_path / "given")) == ""
    assert store_option(FileStore(tmp_path / ".orch")) == f" --store {tmp_path}/.orch"


def test_what_is_suggested_can_be_typed(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FAILS)
    store = tmp_path / "my store"
    failed = orch("run", "--run-id", "r", "--store", store, "wf.py", cwd=tmp_path)
    assert failed.returncode == 1
    for suggested in ("orch logs r 1", "orch replay r --restart"):
        assert f"{suggested} --store '{store}'" in failed.stderr
    exists = orch("run", "--run-id", "r", "--store", store, "wf.py", cwd=tmp_path)
    assert exists.returncode == 2
    assert f"orch replay r --restart --store '{store}'" in exists.stderr
    line = next(line for line in failed.stderr.splitlines() if "orch logs" in line).partition(": ")[2]
    shown = orch(*shlex.split(line)[1:], cwd=tmp_path)
    assert shown.returncode == 0
    assert "ValueError: bad" in shown.stderr
