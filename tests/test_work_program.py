"""Commands that Python prepares and collects."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import World, gather

import orch
from orch.attempt import Outcome, Reason, Value
from orch.results import CommandResult
from orch.work.command import command_value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def ref(world: World) -> orch.FileRef:
    @orch.job
    def write() -> Any:
        path = orch.context().scratch / "in put.txt"
        path.write_text("hello\n")
        return orch.context().write_file(path)

    found = world.value(write())
    assert isinstance(found, orch.FileRef)
    return found


def shell(script: str, *args: Any, **options: Any) -> Any:
    return orch.command(["sh", "-c", script, "sh", *args], **{"outputs": {"none": "*.none"}, **options})


def result(world: World, job: Any) -> CommandResult:
    value = world.evaluate(job)
    assert isinstance(value, CommandResult)
    return value


def read(world: World, ref: Any) -> str:
    return world.store.read_bytes(ref.path).decode()


def test_references_become_local_paths(world: World, ref: orch.FileRef) -> None:
    assert result(world, orch.command(["cat", ref])).stdout == "hello\n"


def test_inputs_and_outputs(world: World, ref: orch.FileRef) -> None:
    found = result(
        world,
        shell(
            'cat "deep/a b.txt" > out.txt; mkdir dir; echo x > dir/y; echo 2 > b.tab; echo 1 > a.tab',
            inputs={"deep/a b.txt": ref, "in.tab": ref},
            outputs={"out": "out.txt", "tabs": "*.tab", "dir": "dir/", "in": "in.tab", "none": "*.x"},
        ),
    )
    assert read(world, found.outputs["out"]) == "hello\n"
    assert [tab.name for tab in found.outputs["tabs"]] == ["a.tab", "b.tab"]
    assert isinstance(found.outputs["dir"], orch.DirRef)
    assert found.outputs["in"] == ref
    assert found.outputs["none"] == []


def test_jobs_as_arguments_and_inputs(world: World, ref: orch.FileRef) -> None:
    @orch.job
    def give(value: Any) -> Any:
        return value

    first: Any = shell('printf "%s," "$@" > o', give(1), give([2, "three"]), give({"k": ref})["k"], outputs={"o": "o"})
    assert read(world, result(world, first).outputs["o"]).startswith("1,2,three,/")
    chained = orch.command(["cat", "x", give(Path("y"))], inputs={"x": first["outputs"]["o"], "y": give(ref)})
    given, text = result(world, chained).stdout.rsplit(",", 1)
    assert (given.startswith("1,2,three,/"), text) == (True, "hello\n")


@pytest.mark.parametrize("stdin", ["text", b"text"])
def test_stdin(world: World, stdin: Any) -> None:
    assert result(world, shell("cat", stdin=stdin)).stdout == "text"


def test_stdin_from_files_and_jobs(world: World, ref: orch.FileRef) -> None:
    @orch.job
    def give() -> Any:
        return "from a job"

    assert result(world, shell("cat", stdin=ref)).stdout == "hello\n"
    assert result(world, shell("cat", stdin=give())).stdout == "from a job"
    assert result(world, shell("cat")).stdout == ""


def test_a_large_stdin_that_nobody_reads_or_that_comes_back(world: World) -> None:
    data = b"0123456789" * 200_000
    assert result(world, shell("true", stdin=data)).stdout == ""
    assert len(result(world, shell("cat", stdin=data)).stdout) == len(data)


def test_streams_to_files(world: World) -> None:
    found = result(world, shell("echo out; echo err >&2", stdout="logs/o", stderr="e"))
    assert (read(world, found.stdout), read(world, found.stderr)) == ("out\n", "err\n")
    assert found.stdout.name == "o"


def test_streams_are_captured_and_shown(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    found = result(world, shell("echo out; echo err >&2"))
    assert (found.exit_code, found.stdout, found.stderr) == (0, "out\n", "err\n")
    assert capfd.readouterr() == ("out\n", "err\n")


def test_environment_and_directory(world: World, ref: orch.FileRef, tmp_path: Path) -> None:
    script = 'echo "$A:$B"; pwd; echo $TMPDIR'
    found = result(world, shell(script, env={"A": 1, "B": ref}, cwd="below/here"))
    lines = found.stdout.splitlines()
    assert lines[0].startswith("1:/")
    assert lines[1] == f"{lines[2]}/below/here"
    assert result(world, shell("pwd", cwd=tmp_path)).stdout == f"{tmp_path}\n"


def outcome(world: World, job: Any) -> Outcome:
    return world.outcome(job)


@pytest.mark.parametrize(
    ("script", "code", "signal", "message"),
    [
        ("exit 3", 3, 0, "exit code 3"),
        ("kill -9 $$", None, 9, "killed by SIGKILL"),
    ],
)
def test_programs_that_fail(world: World, script: str, code: int | None, signal: int, message: str) -> None:
    found = outcome(world, shell(script))
    assert (found.reason, found.exit_code, found.signal, found.message) == (Reason.FAILED, code, signal, message)


def test_programs_that_cannot_be_run(world: World, ref: orch.FileRef) -> None:
    missing = outcome(world, orch.command(["no-such-program", ref]))
    assert missing.exit_code == 127
    assert missing.message.startswith("there is no program 'no-such-program' in PATH (")
    assert outcome(world, orch.command(["/no/such", ref])).message == "there is no program '/no/such'"
    plain = outcome(world, orch.command([ref]))
    assert (plain.exit_code, "Permission denied" in plain.message) == (126, True)


def test_a_stored_program_is_run(world: World) -> None:
    @orch.job
    def program() -> Any:
        path = orch.context().scratch / "hello"
        path.write_text("#!/bin/sh\necho hello $1\n")
        path.chmod(0o755)
        return orch.context().write_file(path)

    assert result(world, orch.command([program(), "you"])).stdout == "hello you\n"


@pytest.mark.parametrize(
    ("script", "output", "message"),
    [
        ("touch a; mkdir b", "c", "output 'x': there is no 'c'; in the scratch directory: a, b/"),
        ("true", "c/", "output 'x': there is no 'c/'; in the scratch directory: nothing"),
        ("mkdir c", "c", "output 'x': 'c' is a directory; write 'c/' to keep it"),
        ("ln -s /etc/passwd c", "c", "output 'x': c is a link to /etc/passwd, outside of the scratch directory"),
        ("ln -s /etc/passwd c", "*", "output 'x': c is a link to /etc/passwd, outside of the scratch directory"),
        ("ln -s /etc c", "c/", "output 'x': c is a link to /etc, outside of the scratch directory"),
        ("ln -s /etc c", "c/passwd", "output 'x': c/passwd is a link to /etc/passwd, outside"),
    ],
)
def test_outputs_that_are_not_there_or_lead_away(world: World, script: str, output: str, message: str) -> None:
    found = outcome(world, shell(script, outputs={"x": output}))
    assert found.reason == Reason.FAILED
    assert found.message.startswith(message)


def test_a_link_inside_scratch_is_fine(world: World) -> None:
    found = result(world, shell("echo 1 > a; ln -s a b", outputs={"b": "b"}))
    assert read(world, found.outputs["b"]) == "1\n"


def test_values_that_do_not_fit(world: World) -> None:
    def message(job: Any) -> str:
        parts = gather(job)
        give_outcome = world.run(world.attempt(parts.jobs[0], 1))
        world.values[1] = Value(blob=give_outcome.value)
        return world.run(world.attempt(parts.jobs[1], 2, [1])).message

    @orch.job
    def give() -> Any:
        return {"a": 1}

    assert "the argument {'a': 1} is a dict" in message(orch.command(["echo", give()]))
    assert "input 'x' is {'a': 1}, a dict" in message(orch.command(["echo"], inputs={"x": give()}))
    assert "stdin is {'a': 1}, a dict" in message(orch.command(["echo"], stdin=give()))


def test_what_a_program_leaves_running_is_not_waited_for(world: World, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert result(world, shell('cat "$1" & echo started', pipe)).stdout == "started\n"
    with pipe.open("wb"):
        """Now it ends."""


def test_captured_output_is_bounded(world: World) -> None:
    new = gather(shell("yes 0123456 | head -c 1000000; echo end")).jobs[0]
    found = world.run(world.attempt(new, max_log=1000))
    text = pickle.loads(world.bytes(found.value)).stdout
    assert text.startswith("0123456\n")
    assert text.endswith("end\n")
    assert "… 999004 bytes were left out …" in text


def test_the_value_that_the_agent_makes() -> None:
    value = pickle.loads(command_value(0, b"a\xff", b"e"))
    assert value == CommandResult(0, "a\ufffd", "e", {})
    assert msgspec.to_builtins(value)["exit_code"] == 0
