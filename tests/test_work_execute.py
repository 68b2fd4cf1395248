"""Attempts, run in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from support.attempts import World, gather

import orch
from orch.attempt import Reason, Value
from orch.authoring.pickling import loads
from orch.bus.events import INLINE_LIMIT, Accelerator, Blob, Resources
from orch.work.execute import scratch_name


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


@orch.job
def add(x: Any, y: Any) -> Any:
    return x + y


@orch.job
def fib(n: int) -> Any:
    return n if n < 2 else add(fib(n - 1), fib(n - 2))


@orch.job
def nest(n: int) -> Any:
    return [n, nest(n - 1)] if n else []


@orch.job
def give(value: Any) -> Any:
    return value


@orch.job
def large(size: int) -> Any:
    return [b"x" * size, give(b"y" * size)]


@orch.job
def raising(error: BaseException) -> None:
    raise error


@orch.job
async def later(x: int) -> Any:
    await asyncio.sleep(0)
    return add(x, 1)


@orch.job
def in_scratch(name: str) -> tuple[str, str, str]:
    here = orch.context().scratch
    (here / name).write_bytes(b"x" * 5000)
    (here / "sub").mkdir()
    (here / "sub").chmod(0)
    return str(here), os.environ["TMPDIR"], tempfile.mkdtemp()


@orch.job
def disturb() -> str:
    os.chdir("/")
    with tempfile.NamedTemporaryFile() as file:
        return file.name


@orch.job
def where() -> str:
    return str(Path.cwd())


@orch.job
def careless() -> Any:
    add(1, 2)
    return add(3, 4)


@orch.job
def unpicklable() -> Any:
    return {"a": [threading.Lock()]}


@orch.job
def cyclic() -> Any:
    box: list[Any] = []
    box.append(give(box))
    return box


@orch.job
def greedy() -> Any:
    return add.options(memory="lots")(1, 2)


@orch.job
def forks() -> int:
    if os.fork() == 0:
        return 1  # a child that comes back must not leave an outcome, nor clean up
    _, status = os.wait()
    return os.waitstatus_to_exitcode(status) + 100


@orch.job
def threaded() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(orch.context().job_id))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_dynamic_workflow(world: World) -> None:
    assert world.evaluate(fib(7)) == 13


def test_values_with_jobs_inside(world: World) -> None:
    assert world.evaluate(nest(3)) == [3, [2, [1, []]]]
    assert world.evaluate({"p": Point(fib(3), (fib(4),))}) == {"p": Point(2, (3,))}


def test_parts(world: World) -> None:
    made: Any = give({"a": [10, 20], "p": Point(1, 2)})
    assert world.evaluate(add(made["a"][1], made["p"]["y"])) == 22
    assert world.evaluate([made["a"]]) == [[10, 20]]


def test_async_jobs(world: World) -> None:
    assert world.evaluate(later(3)) == 4


def test_large_values_and_bodies_are_files(world: World) -> None:
    outcome = world.outcome(large(INLINE_LIMIT))
    assert outcome.value.file == "runs/run/values/000/1.1.value"
    assert outcome.jobs[0].body.file == "runs/run/values/000/1.1.body0"
    assert world.evaluate(large(INLINE_LIMIT)) == [b"x" * INLINE_LIMIT, b"y" * INLINE_LIMIT]


def missing_part(world: World, key: Any, value: Any) -> str:
    job = give(give(value)[key])
    new = gather(job).jobs[-1]
    world.values[7] = Value(blob=gather(value).value, label="maker(1) [job 7]")
    outcome = world.run(world.attempt(new, 9, [7]))
    assert outcome.reason == Reason.FAILED
    return outcome.message


def test_a_part_that_is_not_there_names_both_jobs_and_the_key(world: World) -> None:
    message = missing_part(world, "b", {"a": 1})
    assert message == (
        "give(…) [job 9] needs ['b'] of the value of maker(1) [job 7], which does not have it: "
        "no key 'b' in a dict with the keys 'a'"
    )
    assert "a list of length 1" in missing_part(world, 3, [1])
    assert "has no attribute 'z'" in missing_part(world, "z", Point(1, 2))
    assert "has no items" in missing_part(world, 0, Point(1, 2))


def test_exceptions(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = world.outcome(raising(ValueError("bad header\nsecond line")))
    assert (outcome.reason, outcome.exit_code, outcome.message) == (Reason.FAILED, 1, "ValueError: bad header …")
    trace = capsys.readouterr().err
    assert trace.startswith("Traceback (most recent call last):\n")
    assert "in raising\n    raise error\nValueError: bad header" in trace
    assert "orchestrator" not in trace.replace(str(Path(__file__)), "")


@pytest.mark.parametrize(
    ("error", "reason", "code", "message"),
    [
        (MemoryError(), Reason.MEMLIMIT, 1, "out of memory: MemoryError"),
        (SystemExit(3), Reason.FAILED, 3, "called sys.exit(3)"),
        (SystemExit(0), Reason.FAILED, 0, "called sys.exit(0) instead of returning"),
        (SystemExit(), Reason.FAILED, 0, "called sys.exit(0) instead of returning"),
        (SystemExit("no input"), Reason.FAILED, 1, "called sys.exit: no input"),
        (ValueError("lone \ud800"), Reason.FAILED, 1, r"ValueError: lone \ud800"),
        (SystemExit("lone \ud800"), Reason.FAILED, 1, r"called sys.exit: lone \ud800"),
        (KeyboardInterrupt(), Reason.FAILED, 1, "KeyboardInterrupt"),
        (GeneratorExit(), Reason.FAILED, 1, "GeneratorExit"),
    ],
)
def test_other_ends(world: World, error: BaseException, reason: Reason, code: int, message: str) -> None:
    outcome = world.outcome(raising(error))
    assert (outcome.reason, outcome.exit_code, outcome.message) == (reason, code, message)
    assert not os.listdir(world.place.scratch)


def test_mistakes_with_jobs_are_failed_attempts(world: World) -> None:
    assert "the returned value, item ['a'][0]: cannot pickle '_thread.lock'" in world.outcome(unpicklable()).message
    assert "give(…) needs its own value" in world.outcome(cyclic()).message
    assert "job add: memory='lots': 'lots' is not a size" in world.outcome(greedy()).message
    assert world.outcome(greedy()).reason == Reason.FAILED


def test_jobs_that_are_not_used_are_warned_about(world: World) -> None:
    outcome = world.outcome(careless())
    assert len(outcome.jobs) == 1
    assert outcome.warnings[0].startswith(f"job add made at {__file__}:")
    assert world.outcome(careless()).warnings == outcome.warnings  # nothing stays behind for the next attempt


def test_scratch_is_there_and_is_cleaned(world: World) -> None:
    before = os.environ.get("TMPDIR")
    outcome = world.outcome(in_scratch("a b"))
    value: Any = world.value(in_scratch("a b"))
    assert value[0] == value[1] == str(Path(world.place.scratch) / scratch_name("run/1.1"))
    assert value[2].startswith(value[0])
    assert 5000 <= outcome.usage.disk < 100_000
    assert not os.listdir(world.place.scratch)
    assert os.environ.get("TMPDIR") == before
    assert not tempfile.gettempdir().startswith(world.place.scratch)


def test_what_an_earlier_attempt_left_is_removed(world: World) -> None:
    left = Path(world.place.scratch) / scratch_name("run/1.1")
    left.mkdir(parents=True)
    (left / "old").write_text("")
    assert world.outcome(give(1)).usage.disk == 0
    assert not left.exists()


def test_scratch_names_are_safe_and_differ() -> None:
    names = {scratch_name(key) for key in ("a/1", "a_1", "a/" + "x" * 300, "a/" + "x" * 301, "..")}
    assert len(names) == 5
    assert all("/" not in name and len(name) < 100 and not name.startswith(".") for name in names)


def test_a_scratch_directory_that_cannot_be_made_is_our_error(world: World) -> None:
    Path(world.place.scratch).write_text("a file")
    outcome = world.outcome(give(1))
    assert outcome.reason == Reason.ERROR
    assert "scratch directory" in outcome.message


def test_the_current_directory_is_the_attempt_s_and_comes_back(world: World, tmp_path: Path) -> None:
    before = Path.cwd()
    new = gather(where()).jobs[0]
    outcome = world.run(world.attempt(new, cwd=str(tmp_path)))
    assert str(tmp_path).encode() in outcome.value.data
    assert Path.cwd() == before
    gone = world.run(world.attempt(new, cwd=str(tmp_path / "gone")))
    assert str(before).encode() in gone.value.data
    world.run(world.attempt(gather(disturb()).jobs[0], cwd=str(tmp_path)))
    assert Path.cwd() == before


def test_a_body_that_this_code_does_not_have(world: World) -> None:
    new = gather(give(1)).jobs[0]
    body = new.body.data.replace(b"give", b"gone")
    outcome = world.run(world.attempt(new, body=Blob(data=body, size=len(body))))
    assert outcome.reason == Reason.FAILED
    assert "has no job gone any more (it was renamed or removed" in outcome.message
    assert "give(1) [job 1] cannot run with this code" in outcome.message


def test_a_value_that_was_not_handed_over(world: World) -> None:
    new = gather(give(give(1))).jobs[1]
    outcome = world.run(world.attempt(new, 2, [1]))
    assert "needs the value of job 1, which was not handed over" in outcome.message


def test_a_value_whose_file_is_gone_is_not_the_job_s_fault(world: World) -> None:
    new = gather(give(1)).jobs[0]
    outcome = world.run(world.attempt(new, body=Blob(file="runs/run/values/000/0.1.body0", size=9)))
    assert outcome.reason == Reason.ERROR
    assert "runs/run/values/000/0.1.body0" in outcome.message


def test_a_chain_of_values_ten_thousand_deep_is_read(world: World) -> None:
    depth = 10_000
    new = gather(give(give(1))).jobs[1]
    leaf = gather({"a": "end"}).value
    world.values = {n: Value(blob=gather({"a": n, "inside": [give(1)]}).value, refs=[n + 1]) for n in range(1, depth)}
    world.values[depth] = Value(blob=leaf)
    outcome = world.run(world.attempt(new, depth + 1, [1]))
    assert outcome.reason == Reason.FAILED  # the value itself is as deep, and cannot be pickled again
    assert "nested too deeply" in outcome.message


def test_a_child_that_a_job_forks_leaves_no_outcome(world: World) -> None:
    assert world.value(forks()) == 100


def test_threads_of_a_job_see_its_context(world: World) -> None:
    assert world.value(threaded()) == "1"


def test_closed_streams_do_no_harm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert world.outcome(give(1)).reason == Reason.FINISHED
    assert world.outcome(raising(ValueError("x"))).message == "ValueError: x"


def test_an_exception_whose_text_cannot_be_made(world: World) -> None:
    assert world.outcome(sabotage()).message == "Sabotage: (its text cannot be made)"


class Sabotage(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@orch.job
def sabotage() -> None:
    raise Sabotage


class Trouble(ConnectionError):
    """A user's own."""


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (
            Trouble("x"),
            [
                f"{__name__}.Trouble",
                "builtins.ConnectionError",
                "builtins.OSError",
                "builtins.Exception",
                "builtins.BaseException",
            ],
        ),
        (SystemExit(3), ["builtins.SystemExit", "builtins.BaseException"]),
        (MemoryError(), ["builtins.MemoryError", "builtins.Exception", "builtins.BaseException"]),
    ],
)
def test_the_class_of_an_exception_and_its_bases_are_told(world: World, error: BaseException, names: list[str]) -> None:
    assert world.outcome(raising(error)).errors == names
    assert world.outcome(give(1)).errors == []


@orch.job
def own_environment(name: str) -> tuple[str | None, str]:
    program = [sys.executable, "-c", f"import os; print(os.environ.get({name!r}))"]
    return os.environ.get(name), subprocess.run(program, capture_output=True, text=True, check=True).stdout


def test_variables_of_an_attempt_are_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASK", "0,1")
    monkeypatch.delenv("MORE", raising=False)
    for name, before in (("MASK", "0,1"), ("MORE", None)):
        assert world.value(own_environment(name)) == (before, f"{before}\n")
        new = gather(own_environment(name)).jobs[0]
        outcome = world.run(world.attempt(new, env={name: "1"}))
        assert loads(outcome.value.data, lambda *_: None) == ("1", "1\n")
        assert os.environ.get(name) == before


streams: list[Any] = []


@orch.job
def mess_up(directory: str) -> None:
    os.chdir(directory)
    os.environ["ADDED"] = "1"
    os.environ["CHANGED"] = "2"
    del os.environ["REMOVED"]
    sys.stdout = io.TextIOWrapper(io.FileIO(os.dup(1), "w"))
    streams.append(sys.stdout)
    sys.stdout.write("what was not flushed yet\n")
    sys.stderr = io.StringIO()
    raise ValueError("in the end")


def test_a_process_is_afterwards_as_it_was(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Many attempts run in one process: in a warm worker, and in a run within one process."""
    monkeypatch.setenv("CHANGED", "1")
    monkeypatch.setenv("REMOVED", "1")
    before = Path.cwd(), dict(os.environ), sys.stdin, sys.stdout, sys.stderr
    for _ in range(3):
        assert world.outcome(mess_up(str(tmp_path))).message == "ValueError: in the end"
        assert (Path.cwd(), dict(os.environ), sys.stdin, sys.stdout, sys.stderr) == before
        assert subprocess.run(["printenv", "ADDED"], check=False).returncode == 1
        assert world.value(give(1)) == 1
    assert capfd.readouterr().out == "what was not flushed yet\n" * 3
    for stream in streams:
        stream.close()


def test_devices_are_among_the_resources(world: World) -> None:
    devices = (Accelerator("gpu", 2, "k80"),)
    new = gather(what_it_was_given()).jobs[0]
    outcome = world.run(world.attempt(new, resources=Resources(accelerators=devices)))
    assert loads(outcome.value.data, lambda *_: None).accelerators == devices


@orch.job
def what_it_was_given() -> Any:
    return orch.context().resources
