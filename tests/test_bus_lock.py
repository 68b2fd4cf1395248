"""The polite lock, between processes and hosts, with the kernel's locks and without."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from orch.bus.errors import LogTrouble, RunBusy
from orch.bus.identity import whoami
from orch.bus.lease import LEASE, Grip, Holder, this_process
from orch.bus.lock import Means, RunLock, try_lock

HOLDER = """
import errno, fcntl, os, sys
from pathlib import Path
from orch.bus.errors import RunBusy
from orch.bus.lock import RunLock
if sys.argv[2:] == ["without"]:
    def flock(handle, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock = flock
lock = RunLock(Path(sys.argv[1]))
print("here", flush=True)
sys.stdin.readline()
try:
    lock.acquire()
    print("held", flush=True)
except RunBusy as e:
    print(e, flush=True)
sys.stdin.read()
"""

FAR = Holder(host="far", pid=7, boot="b9", user="someone", since="then", space=5, began=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The lock of a run."""
    (tmp_path / "run7").mkdir()
    return tmp_path / "run7" / "lock"


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts another process that takes the lock as soon as it is told to; `before`: what runs it."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-c", HOLDER, str(path), *options]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert read(process) == "here"
        return process

    yield begin
    for process in started:
        with process:
            process.kill()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def holder(start: Start) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = start()
    go(process)
    assert read(process) == "held"
    return process


def unsupported(_handle: int, _kind: int) -> Grip:
    return "unsupported"


WITHOUT = Means(try_lock=unsupported)


def left_by(path: Path, holder: Holder, age: float = 0.0) -> None:
    """A lock whose holder has not renewed it for `age` seconds, by the clock of the file system."""
    path.write_bytes(msgspec.json.encode(holder))
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))


def age_of(path: Path) -> float:
    """Seconds since the last renewal."""
    probe = path.parent / "probe"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    return now - path.stat().st_mtime


# With the kernel's locks ------------------------------------------------------------------------------------------


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
    assert os.listdir(path.parent) == ["lock"]


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


def test_a_stopped_holder_still_holds_it_and_is_said_to_be_silent(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(RunBusy) as refused:
        RunLock(path).acquire()
    assert "silent" not in str(refused.value)
    then = path.stat().st_mtime - 100
    os.utime(path, (then, then))
    with pytest.raises(RunBusy, match=r"it has been silent for 10\d s: if it hangs, take over with --take-over"):
        RunLock(path).acquire()


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


def test_of_two_that_race_for_a_dead_lease_one_gets_it(path: Path, start: Start) -> None:
    left_by(path, FAR, age=LEASE + 1)
    racers = [start() for _ in range(4)]
    for racer in racers:
        go(racer)
    said = sorted(read(racer) for racer in racers)
    assert said[0] == "held"
    assert all("has a live leader" in one for one in said[1:])


# Without ----------------------------------------------------------------------------------------------------------


def test_without_locks_a_live_leader_of_this_host_is_known_by_its_pid(path: Path, start: Start) -> None:
    first, second = start("without"), start("without")
    go(first)
    assert read(first) == "held"
    go(second)
    assert f"the run run7 has a live leader: process {first.pid} on " in read(second)
    found = RunLock(path, means=WITHOUT).holder()
    assert found is not None
    assert found.pid == first.pid
    first.kill()
    first.wait()
    third = start("without")
    go(third)
    assert read(third) == "held"
    assert os.listdir(path.parent) == ["lock"]


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


# Other hosts ------------------------------------------------------------------------------------------------------

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


HOSTNAME = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh")
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.parametrize("before", [HOSTNAME, CONTAINER], ids=["hostname", "container"])
@pytest.mark.parametrize("options", [(), ("without",)], ids=["flock", "none"])
def test_a_leader_killed_elsewhere(path: Path, start: Start, before: tuple[str, ...], options: tuple[str, ...]) -> None:
    """On a host with another name, and in a container with this host's name."""
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("namespaces cannot be made here: this needs root")
    process = start(*options, before=before)
    go(process)
    assert read(process) == "held"
    lock = RunLock(path, means=WITHOUT if options else Means())
    with pytest.raises(RunBusy, match="live leader"):
        lock.acquire()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]) if children else process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(RunBusy, match=r"seems to have a live leader: .* its lease ends in (30|2\d) s"):
        lock.acquire()
    then = path.stat().st_mtime - LEASE
    os.utime(path, (then, then))
    lock.acquire()
    lock.release()


# Taking over ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("without",)], ids=["flock", "none"])
def test_taking_over(path: Path, start: Start, options: tuple[str, ...]) -> None:
    """From a leader that is stopped. It is told by the renewal, and does no harm to the lock of the one who has it."""
    old = RunLock(path, me=lambda: msgspec.structs.replace(this_process(), since="then"))
    old.acquire()
    new = RunLock(path, means=WITHOUT if options else Means())
    with pytest.raises(RunBusy):
        new.acquire()
    new.acquire(take_over=True)
    found = new.holder()
    assert found is not None
    assert found.since != "then"
    assert new.renew()
    assert not old.renew()
    third = start(*options)
    go(third)
    assert f"has a live leader: process {os.getpid()}" in read(third)
    old.release()
    assert new.renew()
    assert new.holder() == found
    new.release()
    assert new.holder() is None
    assert os.listdir(path.parent) == ["lock"]


def test_taking_over_what_is_free(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire(take_over=True)
    assert lock.renew()
    lock.release()


# Trouble ----------------------------------------------------------------------------------------------------------


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
