"""Directories are made while others, who leave, remove what is empty above them, and who come make it again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orch.agent.paths import runtime_directory
from orch.store.private import make_private


def test_what_is_above_was_removed_and_made_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir, failures = os.mkdir, [errno.ENOENT, errno.EEXIST]

    def raced(path: str, mode: int = 0o777) -> None:
        if path.endswith("leaf") and failures:
            number = failures.pop()
            raise OSError(number, os.strerror(number))  # and when it is looked at, all is as before
        mkdir(path, mode)

    monkeypatch.setattr("os.mkdir", raced)
    make_private(str(tmp_path / "a/b/leaf"))
    assert (tmp_path / "a/b/leaf").is_dir()
    assert failures == []


def test_what_is_no_directory_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "not there")
    with pytest.raises(FileExistsError):
        make_private(str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"File exists|No such file"):
        make_private(str(tmp_path / "nowhere"))


def test_a_runtime_directory_that_somebody_removes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chmod = os.chmod
    removed: list[Path] = []

    def raced(path: str, mode: int) -> None:
        if not removed:
            removed.extend(each for each in (*Path(path).iterdir(), Path(path)))
            for each in removed:
                each.rmdir()
        chmod(path, mode)

    monkeypatch.setattr("os.chmod", raced)
    path = runtime_directory(str(tmp_path / "store"), str(tmp_path / "work"), {}, ".batch")
    assert removed[0] == Path(path)
    assert Path(path).is_dir()
