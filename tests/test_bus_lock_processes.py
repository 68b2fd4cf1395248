"""The polite lock between processes: one that dies, is stopped, races, is elsewhere, or is robbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from support.locks import FAR, WITHOUT, left_by

from orch.bus.errors import RunBusy
from orch.bus.identity import whoami
from orch.bus.lease import LEASE, this_process
from orch.bus.lock import Means, RunLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The lock of a run."""
    (tmp_path / "run7").mkdir()
    return tmp_path / "run7" / "lock"


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


def test_of_two_that_race_for_a_dead_lease_one_gets_it(path: Path, start: Start) -> None:
    left_by(path, FAR, age=LEASE + 1)
    racers = [start() for _ in range(4)]
    for racer in racers:
        go(racer)
    said = sorted(read(racer) for racer in racers)
    assert said[0] == "held"
    assert all("has a live leader" in one for one in said[1:])


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
