"""The polite lock within one process, with the kernel's locks and without, and trouble with its file."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from support.locks import FAR, WITHOUT, left_by

from orch.bus.errors import LogTrouble, RunBusy
from orch.bus.identity import whoami
from orch.bus.lease import Grip, Holder, this_process
from orch.bus.lock import Means, RunLock, try_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The lock of a run."""
    (tmp_path / "run7").mkdir()
    return tmp_path / "run7" / "lock"


def test_children_do_not_keep_it(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        lock.release()
        other = RunLock(path)
        other.acquire()
        other.release()


@pytest.mark.parametrize("means", [Means(), WITHOUT], ids=["flock", "none"])
def test_within_one_process_too(path: Path, means: Means) -> None:
    one, two = RunLock(path, means=means), RunLock(path, means=means)
    assert one.holder() is None
    one.acquire()
    one.acquire()
    with pytest.raises(RunBusy, match=f"has a live leader: process {os.getpid()} on "):
        two.acquire()
    assert one.holder() is not None
    assert two.holder() == one.holder()
    one.release()
    one.release()
    assert two.holder() is None
    two.acquire()
    two.release()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["lock"]


def test_somebody_who_only_asks_does_not_get_in_the_way(path: Path) -> None:
    """`holder` takes the lock for a moment; a leader that comes at that moment waits for it."""
    path.touch()
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        fcntl.flock(handle, fcntl.LOCK_UN)

    lock = RunLock(path, means=Means(pause=pause))
    lock.acquire()
    assert len(paused) == 1
    lock.release()
    os.close(handle)


def test_a_holder_that_has_not_signed_is_waited_for_a_moment(path: Path) -> None:
    path.touch()
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    paused: list[float] = []
    lock = RunLock(path, means=Means(pause=paused.append))
    with pytest.raises(RunBusy, match=r"run7 has a live leader \(it has not said who it is\)"):
        lock.acquire()
    assert 0 < len(paused) < 10
    assert lock.holder() == Holder("?", 0)
    os.close(handle)


def test_a_file_that_was_replaced_meanwhile_is_not_the_lock(path: Path) -> None:
    """Between opening and locking, somebody takes over: what we have locked has no name any more."""
    thief = RunLock(path)

    def steal(handle: int, kind: int) -> Grip:
        if thief.holder() is None:
            path.unlink()
            thief.acquire()
        return try_lock(handle, kind)

    with pytest.raises(RunBusy, match=str(os.getpid())):
        RunLock(path, means=Means(try_lock=steal)).acquire()
    assert thief.renew()
    thief.release()


def test_without_locks_a_process_with_a_dead_leaders_pid_is_not_taken_for_it(path: Path) -> None:
    me = this_process()
    left_by(path, msgspec.structs.replace(me, began=me.began + 1))
    lock = RunLock(path, means=WITHOUT)
    assert lock.holder() is None
    lock.acquire()
    lock.release()


def test_without_locks_the_last_to_sign_has_it(path: Path) -> None:
    """Two find it free at the same time."""
    second = RunLock(path, means=WITHOUT)

    def pause(_seconds: float) -> None:
        """The first one has signed, and will now look whether it still has it."""
        path.write_bytes(b"")
        second.acquire()

    first = RunLock(path, means=dataclasses.replace(WITHOUT, pause=pause))
    with pytest.raises(RunBusy, match="run7 has a live leader: process"):
        first.acquire()
    assert second.renew()
    assert not first.renew()
    first.release()
    assert second.renew()
    assert os.listdir(path.parent) == ["lock"]
    second.release()


def test_taking_over_what_is_free(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire(take_over=True)
    assert lock.renew()
    lock.release()


def test_a_lock_file_of_an_older_orch(path: Path) -> None:
    who = whoami()
    path.write_text(f'{{"host":"{who.host}","pid":1,"boot":"{who.boot}","since":"then","user":"ann"}}\n')
    with pytest.raises(RunBusy, match=r"process 1 on .* of user ann, since then"):
        RunLock(path, means=WITHOUT).acquire()
    lock = RunLock(path)
    assert lock.holder() is None
    lock.acquire()
    lock.release()
    path.write_text(f'{{"host":"{who.host}","pid":1,"boot":"an earlier one","since":"then"}}')
    without = RunLock(path, means=WITHOUT)
    without.acquire()
    without.release()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\0", b"[]", b'{"host":7}', b"x" * 10_000])
@pytest.mark.parametrize("means", [Means(), WITHOUT], ids=["flock", "none"])
def test_a_file_with_something_else_in_it_is_free(path: Path, text: bytes, means: Means) -> None:
    path.write_bytes(text)
    lock = RunLock(path, means=means)
    assert lock.holder() is None
    lock.acquire()
    assert lock.holder() is not None
    lock.release()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_what_the_kernel_says_where_it_has_no_locks(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(_handle: int, _kind: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = RunLock(path)
    lock.acquire()
    with pytest.raises(RunBusy):
        RunLock(path).acquire()
    lock.release()


def test_trouble_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = RunLock(path.parent / "nowhere" / "lock")
    assert missing.holder() is None
    with pytest.raises(LogTrouble, match=r"cannot take the lock .*nowhere/lock: No such file"):
        missing.acquire()
    with pytest.raises(LogTrouble, match=r"cannot take the lock .*: Is a directory"):
        RunLock(path.parent).acquire()

    def flock(_handle: int, _kind: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LogTrouble, match=r"cannot take the lock .*: Input/output error"):
        RunLock(path).acquire()
    with pytest.raises(LogTrouble, match="cannot look at the lock"):
        RunLock(path).holder()


@pytest.mark.parametrize("means", [Means(), WITHOUT], ids=["flock", "none"])
def test_where_nothing_more_can_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, means: Means) -> None:
    def pwrite(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lock = RunLock(path, means=means)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(LogTrouble, match="No space left on device"):
            lock.acquire()
    assert os.listdir(path.parent) == ["lock"]
    assert lock.holder() is None
    lock.acquire()
    lock.release()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("means", [Means(), WITHOUT], ids=["flock", "none"])
def test_where_nothing_can_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, code: int, means: Means) -> None:
    """On a server that trusts no root, in a read-only copy: nobody can lead; who led is told by our clock."""
    left_by(path, FAR)
    real = os.open

    def read_only(name: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(code, os.strerror(code))
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    lock = RunLock(path, means=means)
    with pytest.raises(LogTrouble, match=f"{os.strerror(code)}; whoever leads a run must be able to write there"):
        lock.acquire()
    assert lock.holder() == FAR
    os.utime(path, (0, 0))
    assert lock.holder() is None
