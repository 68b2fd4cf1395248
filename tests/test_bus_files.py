"""The operating system's files behind the port."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.disk import Disk

from orch.bus.files import REAL, Files


@pytest.fixture(params=["real", "memory"])
def files(request: pytest.FixtureRequest) -> Files:
    """Both implementations must do the same."""
    return REAL if request.param == "real" else Disk()


def test_directories_are_private_and_made_with_their_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    REAL.make_dir(path)
    REAL.make_dir(path)
    for made in (path, path.parent, path.parent.parent):
        assert made.stat().st_mode & 0o777 == 0o700


def test_files_are_private_and_their_descriptors_not_inherited(tmp_path: Path) -> None:
    handle = REAL.create(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(handle)
    REAL.close(handle)


def test_what_is_written_is_read(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert not files.exists(path)
    assert files.list(tmp_path / "nowhere") == []
    writer = files.create(path)
    files.write(writer, b"hello ")
    files.write(writer, b"")
    files.write(writer, b"world")
    files.sync(writer)
    files.sync_dir(tmp_path)
    with pytest.raises(FileExistsError):
        files.create(path)
    assert files.exists(path)
    assert files.list(tmp_path) == ["x"]
    reader = files.open(path)
    assert files.size(reader) == 11
    assert files.read(reader, 6, 100) == b"world"
    assert files.read(reader, 0, 5) == b"hello"
    assert files.read(reader, 11, 5) == b""
    assert files.read(reader, 99, 5) == b""
    files.close(reader)
    files.close(writer)
    with pytest.raises(FileNotFoundError):
        files.open(tmp_path / "y")


def test_short_reads_and_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems take or give less than was asked for."""
    pread, write = os.pread, os.write

    def short_pread(handle: int, size: int, offset: int) -> bytes:
        return pread(handle, min(size, 3), offset)

    def short_write(handle: int, data: bytes) -> int:
        return write(handle, data[:3])

    monkeypatch.setattr(os, "pread", short_pread)
    monkeypatch.setattr(os, "write", short_write)
    handle = REAL.create(tmp_path / "x")
    REAL.write(handle, b"0123456789")
    REAL.close(handle)
    handle = REAL.open(tmp_path / "x")
    assert REAL.read(handle, 0, 10) == b"0123456789"
    assert REAL.read(handle, 2, 100) == b"23456789"
    REAL.close(handle)
