"""Scratch directories that are used again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orch.work import spares


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("scratch", spares.SPARE, spares.TRASH):
        (tmp_path / name).mkdir()
    return tmp_path / "scratch"


def _spare(root: Path) -> list[str]:
    return os.listdir(root.parent / spares.SPARE)


def test_an_empty_directory_is_used_again(root: Path) -> None:
    spares.make(str(root / "a"))
    inode = (root / "a").stat().st_ino
    assert spares.drop(str(root / "a"))
    assert os.listdir(root) == []
    spares.make(str(root / "b"))
    assert (root / "b").stat().st_ino == inode
    assert os.listdir(root / "b") == _spare(root) == []


def test_one_that_holds_something_stays_and_is_not_used_again(root: Path) -> None:
    spares.make(str(root / "a"))
    (root / "a" / "file").touch()
    assert not spares.drop(str(root / "a"))
    assert _spare(root) == []


def test_one_that_was_changed_is_removed_for_good(root: Path) -> None:
    spares.make(str(root / "a"))
    (root / "a").chmod(0o777)
    assert spares.drop(str(root / "a"))
    assert _spare(root) == os.listdir(root) == []


def test_a_spare_one_that_is_not_empty_is_not_handed_out(root: Path) -> None:
    """A process of the attempt before may have written there a moment too late."""
    spares.make(str(root / "a"))
    assert spares.drop(str(root / "a"))
    (root.parent / spares.SPARE / _spare(root)[0] / "late").touch()
    spares.make(str(root / "b"))
    assert os.listdir(root / "b") == []


def test_what_is_at_the_path_is_never_replaced(root: Path) -> None:
    spares.make(str(root / "a"))
    assert spares.drop(str(root / "a"))
    (root / "b").mkdir()
    (root / "b" / "file").touch()
    with pytest.raises(FileExistsError):
        spares.make(str(root / "b"))
    assert (root / "b" / "file").exists()


def test_without_a_place_for_spare_ones_they_are_made_and_removed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    path = tmp_path / "scratch" / "a"
    spares.make(str(path))
    assert path.stat().st_mode & 0o777 == 0o700
    assert spares.drop(str(path))
    assert not path.exists()
    assert spares.drop(str(path))
