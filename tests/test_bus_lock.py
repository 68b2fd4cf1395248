"""The polite lock, between processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.logs import WHO

from orch.bus.errors import LogTrouble, RunBusy
from orch.bus.identity import Identity, whoami
from orch.bus.lock import RunLock

HOLDER = """
import sys
from pathlib import Path
from orch.bus.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The lock of a run."""
    (tmp_path / "run7").mkdir()
    return tmp_path / "run7" / "lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_one_is_told_who_the_first_one_is(path: Path, holder: subprocess.Popen[str]) -> None:
    lock = RunLock(path)
    with pytest.raises(RunBusy) as refused:
        lock.acquire()
    who = whoami()
    for word in ("run7", str(holder.pid), who.host, "since 20", who.user):
        assert word in str(refused.value)
    assert refused.value.exit_code == 3
    found = lock.holder()
    assert found is not None
    assert (found.host, found.pid, found.boot, found.user) == (who.host, holder.pid, who.boot, who.user)


def test_death_frees_it_at_once(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = RunLock(path)
    assert lock.holder() is None
    lock.acquire()
    found = lock.holder()
    assert found is not None
    assert found.pid == os.getpid()
    lock.release()


def test_a_stopped_holder_still_holds_it(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(RunBusy):
        RunLock(path).acquire()


def test_children_do_not_keep_it(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        lock.release()
        other = RunLock(path)
        other.acquire()
        other.release()


def test_within_one_process_too(path: Path) -> None:
    one, two = RunLock(path, identity=WHO, clock=lambda: "then"), RunLock(path)
    assert one.holder() is None
    one.acquire()
    one.acquire()
    with pytest.raises(RunBusy, match="process 7 on here of user someone, since then"):
        two.acquire()
    one.release()
    one.release()
    assert two.holder() is None
    two.acquire()
    two.release()
    assert path.stat().st_mode & 0o777 == 0o600


def test_somebody_who_only_asks_does_not_get_in_the_way(path: Path) -> None:
    """`holder` takes the lock for a moment; a leader that comes at that moment waits for it."""
    path.touch()
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        fcntl.flock(handle, fcntl.LOCK_UN)

    lock = RunLock(path, pause=pause)
    lock.acquire()
    assert len(paused) == 1
    lock.release()
    os.close(handle)


@pytest.mark.parametrize("dead", [True, False])
def test_a_holder_that_has_not_signed_is_waited_for_a_moment(path: Path, dead: bool) -> None:
    text = f'{{"host":"{whoami().host}","pid":1,"boot":"an earlier one","since":"then"}}' if dead else ""
    path.write_text(text)
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    paused: list[float] = []
    with pytest.raises(RunBusy, match="run7 has a live leader"):
        RunLock(path, pause=paused.append).acquire()
    assert 0 < len(paused) < 10
    os.close(handle)


def test_a_dead_holder_of_this_host_is_known_by_its_pid(path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    who = whoami()
    gone = RunLock(path, identity=Identity(who.host, process.pid, who.boot), pause=lambda _: None)
    gone.acquire()
    paused: list[float] = []
    with pytest.raises(RunBusy):
        RunLock(path, pause=paused.append).acquire()
    assert paused
    gone.release()


def test_a_file_system_without_locks_has_it_always_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_handle: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    one, two = RunLock(path), RunLock(path)
    one.acquire()
    two.acquire()
    two.release()
    one.release()


def test_trouble_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = RunLock(path.parent / "nowhere" / "lock")
    assert missing.holder() is None
    with pytest.raises(LogTrouble, match=r"cannot open the lock .*nowhere"):
        missing.acquire()
    with pytest.raises(LogTrouble, match="cannot open"):
        RunLock(path.parent).acquire()

    def flock(_handle: int, _kind: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LogTrouble, match="cannot lock"):
        RunLock(path).acquire()
