"""The operating system's files behind the port."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest
from support.disk import Disk

from orch.agent.assemble import latest_epoch
from orch.bus.errors import LogDamaged
from orch.bus.events import Predecessor
from orch.bus.files import REAL, Files, NotAFile
from orch.bus.segment import epoch_of, epochs, first_line, segment_name
from orch.history import copied_log

ARABIC = "\u0660" * 5 + "\u0667"
"""Digits, but none of ours."""


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


def other_things(directory: Path) -> dict[Path, str]:
    """What can stand under a name and is no file, and how it is called. All in `directory`, a short one."""
    fifo, folder, link, end = (directory / name for name in ("fifo", "folder", "link", "end"))
    os.mkfifo(fifo)
    folder.mkdir()
    link.symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(directory):  # a socket's path must be short
        bound.bind(end.name)
    found = {fifo: "a named pipe", folder: "a directory", link: "a link that leads nowhere", end: "a socket"}
    return found | {Path(os.devnull): "a device"}


def test_what_is_no_file_is_refused_at_once_and_named(tmp_path: Path) -> None:
    for path, what in other_things(tmp_path).items():
        with pytest.raises(NotAFile, match=f"this is {what}"):
            REAL.open(path)
        with pytest.raises(LogDamaged, match=f"{path}: damaged at byte 0: this is {what}"):
            first_line(path, 1, REAL)


def test_a_lease_that_is_being_given_back_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    really = os.open

    def leased(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_NONBLOCK:
            raise BlockingIOError
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", leased)
    handle = REAL.open(tmp_path / "x")
    assert REAL.read(handle, 0, 10) == b"hello"
    REAL.close(handle)


def test_only_the_names_that_we_give_are_segments(tmp_path: Path) -> None:
    for name in ("000002", "1000000", "0000009", "00009", ARABIC, "000003 ", "000000", "+00004"):
        (tmp_path / f"{name}.events.jsonl").touch()
    (tmp_path / "000008.events.jsonl.new").touch()
    assert epochs(tmp_path, REAL) == [2, 1000000]
    assert epoch_of(Predecessor(segment="0000009.events.jsonl", seq=1, length=1, crc="")) == 0
    assert copied_log(tmp_path) == tmp_path
    runs = tmp_path / "store" / "runs" / "r"
    runs.mkdir(parents=True)
    tmp_path.joinpath("log").mkdir()
    (tmp_path / "log" / f"{ARABIC}.events.jsonl").touch()
    assert copied_log(tmp_path / "log") is None
    shutil.copytree(tmp_path / "log", runs / "log")
    assert latest_epoch(str(tmp_path / "store"), "r") == 0
    (runs / "log" / segment_name(5)).touch()
    assert latest_epoch(str(tmp_path / "store"), "r") == 5
