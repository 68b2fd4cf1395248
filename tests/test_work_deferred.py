"""Deferred functions: what an attempt leaves to be done after it, and the program that does it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import World, gather

import orch
from orch.attempt import Outcome, Place, Reason
from orch.environment import inherited
from orch.work import deferred
from orch.work.execute import scratch_name
from orch.work.manifest import MANIFEST, Manifest

TESTS = Path(__file__).parent


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def note(path: str, word: str) -> None:
    """Called in another process, maybe more than once."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")


def fail(path: str) -> None:
    raise ValueError(path)


def describe(path: str, *names: str) -> None:
    note(path, f"{Path.cwd()} {[os.environ.get(name) for name in names]}")


@orch.job
def as_a_job(path: str) -> None:
    note(path, "as a job")


async def later(path: str) -> None:
    note(path, "later")


@orch.job
def call(work: Any, *args: Any) -> Any:
    return work(*args)


def put_off(path: str) -> str:
    here = orch.context()
    here.defer(note, path, "one")
    here.defer(fail, path)
    here.defer(sys.exit, 3)
    here.defer(later, path)
    here.defer(as_a_job, path)
    here.defer(lambda word: note(path, word), word="local")
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else "nothing yet"


def own_file(world: World) -> Path:
    (path,) = deferred.pending(world.place.deferred)
    assert path == deferred.file_of(world.place.deferred, "run/1.1")
    assert path.name == scratch_name("run/1.1")
    return path


def do(world: World, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As an agent does. The tests' modules can be imported, since the attempt could."""
    return subprocess.run(
        deferred.command(path, world.place.store),
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_calls_are_made_in_order_and_one_that_fails_does_not_keep_the_others(world: World, tmp_path: Path) -> None:
    target = tmp_path / "said"
    assert world.value(call(put_off, str(target))) == "nothing yet"
    done = do(world, own_file(world))
    assert target.read_text() == "one\nlater\nas a job\nlocal\n"
    assert "deferred function 2 of call(…, …) [job 1] failed:\nTraceback" in done.stderr
    assert f"ValueError: {target}" in done.stderr
    assert "deferred function 3 of call(…, …) [job 1] failed:\n" in done.stderr
    assert "SystemExit: 3" in done.stderr


def test_to_do_it_again_is_harmless(world: World, tmp_path: Path) -> None:
    target = tmp_path / "said"
    world.value(call(put_off, str(target)))
    do(world, own_file(world))
    do(world, own_file(world))
    assert target.read_text().split("\n") == [*["one", "later", "as a job", "local"] * 2, ""]


def test_calls_have_the_directory_and_the_environment_of_the_attempt(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN", "given")
    monkeypatch.setitem(inherited, "OF_THE_RUN", "not to be written down")
    monkeypatch.setenv("OF_THE_RUN", "not to be written down")
    monkeypatch.setenv("MY_TOKEN", "hush")
    monkeypatch.setenv("ORCH_ATTEMPT", "the mark of the attempt")
    target = tmp_path / "said"
    names = ("PLAIN", "OWN", "MY_TOKEN", "OF_THE_RUN", "ORCH_ATTEMPT", "TMPDIR")

    def put() -> None:
        orch.context().defer(describe, str(target), *names)

    (tmp_path / "here").mkdir()
    world.run(world.attempt(gather(call(put)).jobs[0], cwd=str(tmp_path / "here"), env={"OWN": "1"}))
    for name in names[:4]:
        monkeypatch.delenv(name, raising=False)
    path = own_file(world)
    assert b"given" in path.read_bytes()
    assert b"hush" not in path.read_bytes()
    assert b"not to be written down" not in path.read_bytes()
    do(world, path, ORCH_ATTEMPT="another", TMPDIR="/tmp", MY_TOKEN="of the agent", OF_THE_RUN="too")
    assert target.read_text() == f"{tmp_path / 'here'} ['given', '1', 'of the agent', 'too', 'another', '/tmp']\n"


def test_a_directory_that_is_gone_is_said(world: World, tmp_path: Path) -> None:
    target = tmp_path / "said"
    (tmp_path / "here").mkdir()
    job = gather(call(put_off, str(target))).jobs[0]
    world.run(world.attempt(job, cwd=str(tmp_path / "here")))
    (tmp_path / "here").rmdir()
    done = do(world, own_file(world))
    assert "run in /: " in done.stderr
    assert target.read_text().startswith("one\n")


def test_the_code_is_that_of_the_bundle(world: World, tmp_path: Path) -> None:
    target = tmp_path / "said"
    bundle = Path(world.place.store, "bundles", "abc")
    (bundle / "code").mkdir(parents=True)
    (bundle / "code" / "flow_of_old.py").write_text(f"def clean(word):\n    open({str(target)!r}, 'a').write(word)\n")
    manifest = Manifest(module="flow_of_old", file="code/flow_of_old.py", paths=["code"])
    (bundle / MANIFEST).write_bytes(msgspec.json.encode(manifest))

    def put() -> None:
        sys.path.append(str(bundle / "code"))
        import flow_of_old  # type: ignore[import-not-found]  # just written

        orch.context().defer(flow_of_old.clean, "cleaned")
        sys.path.remove(str(bundle / "code"))

    world.run(world.attempt(gather(call(put)).jobs[0], bundle="abc"))
    del sys.modules["flow_of_old"]
    do(world, own_file(world))
    assert target.read_text() == "cleaned"
    (bundle / MANIFEST).unlink()
    assert (
        "deferred functions of call(…) [job 1]: the workflow's code cannot be read" in do(world, own_file(world)).stderr
    )


def killed_after(world: World, path: str) -> None:
    """In a child: defer, and die of SIGKILL before the attempt is over."""

    def put() -> None:
        orch.context().defer(note, path, "after the kill")
        os.kill(os.getpid(), 9)

    child = os.fork()
    if child == 0:
        try:
            world.outcome(call(put))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


def test_a_killed_attempt_has_its_calls_made(world: World, tmp_path: Path) -> None:
    killed_after(world, str(tmp_path / "said"))
    do(world, own_file(world))
    assert (tmp_path / "said").read_text() == "after the kill\n"


def test_a_record_that_was_cut_off_is_void_and_more_can_follow(world: World, tmp_path: Path) -> None:
    target = tmp_path / "said"
    world.value(call(put_off, str(target)))
    path = own_file(world)
    whole = path.read_bytes()
    for torn in (struct.pack("!QI", 100, 0) + b"x" * 50, struct.pack("!QI", 3, 1) + b"abc", b"\0" * 5):
        path.write_bytes(whole + torn)
        assert len(list(deferred.read_records(path))) == 7
    killed_after(world, str(target))  # the same attempt, handed over again
    do(world, path)
    assert target.read_text() == "one\nlater\nas a job\nlocal\nafter the kill\n"
    for length in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:length])
        assert len(list(deferred.read_records(path))) < 7


def test_a_file_that_says_nothing_is_done(world: World, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert do(world, tmp_path / "empty").stderr == ""


def test_nothing_is_pending_where_nothing_was_deferred(world: World) -> None:
    world.value(call(lambda: 1))
    assert deferred.pending(world.place.deferred) == []


def test_it_is_for_this_user_only(world: World) -> None:
    world.value(call(lambda: orch.context().defer(print)))
    assert own_file(world).stat().st_mode & 0o077 == 0
    assert Path(world.place.deferred).stat().st_mode & 0o077 == 0


def refused(world: World, args: Any) -> str:
    outcome: Outcome = world.outcome(call(lambda: orch.context().defer(*args())))
    assert outcome.reason == Reason.FAILED
    assert deferred.pending(world.place.deferred) == []
    return outcome.message


def test_what_cannot_be_deferred(world: World) -> None:
    assert refused(world, lambda: (3,)) == "defer: 3 cannot be called"
    locked = refused(world, lambda: (print, threading.Lock()))
    assert locked == "defer: the call cannot be stored: cannot pickle '_thread.lock' object"
    message = "defer: job as_a_job('x') stands in the arguments, and there will be no value in its place"
    assert refused(world, lambda: (print, as_a_job("x"))) == message


def test_where_nobody_would_do_it(world: World) -> None:
    world.place = Place(world.place.store, world.place.scratch, "here")
    message = world.outcome(call(lambda: orch.context().defer(print))).message
    assert message == "defer works inside a running job only, and call(…) [job 1] is none"


def test_a_disk_that_cannot_be_written_is_not_the_job_s_fault(world: World) -> None:
    Path(world.place.deferred).write_text("a file")
    outcome = world.outcome(call(lambda: orch.context().defer(print)))
    assert outcome.reason == Reason.ERROR
    assert f"defer: {world.place.deferred} cannot be written" in outcome.message
