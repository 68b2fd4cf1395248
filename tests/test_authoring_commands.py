"""`orch.command`: what it refuses, and which form a command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import gather

import orch
from orch.attempt import CommandSpec, NewJob
from orch.errors import UserError

REF = orch.FileRef("a b.txt", "runs/r/files/000/1.1/0/a b.txt", 3, "sha256:00")


def made(*args: Any, **options: Any) -> NewJob:
    return gather(orch.command(*args, **options)).jobs[-1]


def test_a_plain_command_is_for_the_agent() -> None:
    new = made(["/bin/echo", 1, 2.5, Path("x/y"), "a b"], env={"N": 3}, stdin="text", memory="1M", retries=1)
    assert (new.kind, new.form, new.needs) == ("echo", "command", [])
    assert (new.resources.memory, new.retries) == (2**20, 1)
    spec = msgspec.json.decode(new.body.data, type=CommandSpec)
    assert spec == CommandSpec(["/bin/echo", "1", "2.5", "x/y", "a b"], {"N": "3"}, b"text")


@orch.job
def other() -> int:
    return 1


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": {"a": REF}},
        {"outputs": {"a": "a"}},
        {"stdout": "log"},
        {"stderr": "log"},
        {"cwd": "below"},
        {"stdin": REF},
        {"env": {"A": REF}},
    ],
)
def test_what_needs_python_is_forked(options: dict[str, Any]) -> None:
    assert made(["echo"], **options).form == "fork"


@pytest.mark.parametrize("word", [REF, ["a", "b"], b"\xff", "\udcff"])
def test_arguments_that_need_python(word: Any) -> None:
    assert made(["echo", word]).form == "fork"


def test_a_job_in_the_arguments_is_needed() -> None:
    parts = gather(orch.command(["echo", other(), ["x", other()]]))
    assert [(new.kind, new.needs) for new in parts.jobs] == [("other", []), ("other", []), ("echo", [0, 1])]


def test_names() -> None:
    assert made(["/usr/bin/samtools", "sort", 3, REF]).name == "samtools sort 3 a b.txt"
    assert made(["x"], name="mine").name == "mine"
    assert len(made(["x", "y" * 200]).name) == 60
    assert made([REF]).kind == "a b.txt"
    assert made([other()]).kind == "command"


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (["ls -l"], {}, r"takes a list, not a text.*write \['ls', '-l'\], or \[\"sh\", \"-c\", 'ls -l'\]"),
        ([{"a": 1}], {}, "and not a dict"),
        ([[]], {}, "its list of arguments is empty"),
        ([["a", None]], {}, "argument 1, None: a NoneType cannot be an argument"),
        ([["a", ["b", {}]]], {}, "a dict cannot be an argument"),
        ([["a", "b\0"]], {}, "cannot hold a NUL"),
        ([["a"]], {"outputs": {"x": "../y"}}, r"command a: output '../y' must be a name inside"),
        ([["a"]], {"outputs": {"x": "/y"}}, "must be a name inside"),
        ([["a"]], {"outputs": {"x": "."}}, "must be a name inside"),
        ([["a"]], {"outputs": {"x": 3}}, "must be a text"),
        ([["a"]], {"inputs": {"../x": REF}}, "input '../x' must be a name inside"),
        ([["a"]], {"inputs": {"x": "path"}}, "an input is a FileRef or a DirRef"),
        ([["a"]], {"stdout": "../log"}, "stdout '../log' must be"),
        ([["a"]], {"stdin": 3}, "stdin is a int"),
        ([["a"]], {"cwd": "../.."}, "leads out of the scratch directory"),
        ([["a"]], {"env": {"A=B": "1"}}, "cannot be the name of an environment variable"),
        ([["a"]], {"cores": -1}, "command a: cores=-1"),
        ([["a"]], {"colour": 1}, "command a: unknown option 'colour'"),
        ([["a"]], {"isolation": "pool"}, "a program always has a process of its own"),
    ],
)
def test_bad_commands(args: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        orch.command(*args, **options)
