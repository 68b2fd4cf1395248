"""The polite lock between hosts: leases, and the clocks of servers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.locks import FAR, WITHOUT, age_of, left_by

from orch.bus.errors import LogTrouble, RunBusy
from orch.bus.lease import LEASE
from orch.bus.lock import Means, RunLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The lock of a run."""
    (tmp_path / "run7").mkdir()
    return tmp_path / "run7" / "lock"


SEEMS = (
    r"run7 seems to have a live leader: process 7 on far of user someone, since then; .* its lease ends in {} s: try"
)


@pytest.mark.parametrize("means", [Means(), WITHOUT], ids=["flock", "none"])
def test_a_leader_of_another_host_is_dead_when_its_lease_has_ended(path: Path, means: Means) -> None:
    lock = RunLock(path, means=means)
    left_by(path, FAR, age=13)
    assert lock.holder() == FAR
    with pytest.raises(RunBusy, match=SEEMS.format("1[67]")):
        lock.acquire()
    assert lock.holder() == FAR, "who was refused leaves no trace"
    assert age_of(path) > 12
    left_by(path, FAR, age=LEASE + 1)
    assert lock.holder() is None
    lock.acquire()
    found = lock.holder()
    assert found is not None
    assert found.pid == os.getpid()
    lock.release()


@pytest.mark.parametrize(("ahead", "free"), [(LEASE - 1, False), (LEASE + 10, True)])
def test_a_server_whose_clock_was_set_back_does_not_make_a_lease_immortal(path: Path, ahead: float, free: bool) -> None:
    left_by(path, FAR, age=-ahead)
    assert (RunLock(path).holder() is None) is free


def test_a_server_with_another_clock_than_ours(path: Path) -> None:
    """Ages are differences of the server's times alone."""
    left_by(path, FAR, age=1e8)
    written = path.stat().st_mtime
    lock = RunLock(path, means=Means(server_time=lambda _: written + 13))
    with pytest.raises(RunBusy, match=SEEMS.format("17")):
        lock.acquire()
    lock = RunLock(path, means=Means(server_time=lambda _: written + LEASE))
    lock.acquire()
    lock.release()


def test_a_renewed_lease_is_fresh(path: Path) -> None:
    lock = RunLock(path, me=lambda: FAR)
    assert not lock.renew(), "it has never been ours"
    lock.acquire()
    for _ in range(2):
        then = path.stat().st_mtime - 100
        os.utime(path, (then, then))
        assert lock.renew()
        assert age_of(path) < LEASE
    lock.release()
    assert not lock.renew()


def test_a_lock_that_another_host_has_signed_is_left_to_it(path: Path) -> None:
    """Where each host knows its own kernel's locks only, two may get one at the same moment."""
    lock = RunLock(path)
    lock.acquire()
    left_by(path, FAR)
    assert not lock.renew()
    lock.release()
    assert lock.holder() == FAR


def test_a_lease_that_cannot_be_renewed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RunLock(path)
    lock.acquire()

    def utime(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", utime)
        with pytest.raises(LogTrouble, match=r"cannot renew the lock .*run7/lock: Input/output error"):
            lock.renew()
    assert lock.renew()
    path.unlink()
    assert not lock.renew()
    lock.release()
