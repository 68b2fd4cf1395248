"""Mistakes that are easily made while a graph is written, and what is said about them."""

from __future__ import annotations

import enum
import functools
import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.attempts import World, gather

import orch
from orch.authoring.pickling import dumps, dumps_by_value, loads
from orch.cli.result import result_text
from orch.errors import UserError, WorkflowError


@orch.job
def f(x: Any = None) -> Any:
    return x


@orch.workflow
def flow() -> Any:
    return f()


HINT = r"f is a job function; did you mean f\(…\)\?"


@pytest.mark.parametrize(
    "make",
    [
        lambda: [f, f()],
        lambda: {"a": (lambda: 1), "b": f},
        lambda: f(f),
        lambda: f([(lambda: 1), {"x": f}]),
        lambda: orch.command(["echo", f]),
        lambda: orch.command(["cat"], inputs={"x": f}),
        lambda: orch.command(["cat"], stdin=f),
        lambda: orch.command(["cat"], env={"X": f}),
    ],
)
def test_a_job_function_is_not_a_job(make: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match=HINT):
        gather(make())


def test_nor_is_a_workflow() -> None:
    with pytest.raises(WorkflowError, match=r"item \[0\]: flow is a workflow; did you mean flow\(…\)\?"):
        gather([flow])


def test_functions_may_use_job_functions(tmp_path: Path) -> None:
    @orch.job
    def outer() -> Any:
        return f(3)

    assert World(tmp_path).evaluate(outer()) == 3


@pytest.mark.parametrize("by_value", [False, True])
def test_what_cannot_be_passed_on_is_refused(tmp_path: Path, by_value: bool) -> None:
    (tmp_path / "x").write_text("text")
    with (tmp_path / "x").open() as text, (tmp_path / "x").open("rb") as data:
        things = [text, data, threading.Lock(), (x for x in [1]), memoryview(b"x")]
        for thing in things:
            others: list[Any] = [lambda: 1] if by_value else []
            with pytest.raises(WorkflowError, match=r"job f\(…\): argument 'x', item \[0\]: cannot pickle"):
                gather(f([thing, *others]))
        with pytest.raises(TypeError, match="an open file cannot be passed on"):
            dumps_by_value(lambda: text)


def test_the_standard_streams_are_those_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", stream)
    assert loads(dumps(lambda: stream)[0], lambda *_: None)() is stream


def test_a_job_is_not_iterable_and_has_no_attributes() -> None:
    job: Any = f()
    with pytest.raises(TypeError, match=r"is not iterable: it has no value yet"):
        list(job)
    with pytest.raises(TypeError, match=r"job\[0\], job\[1\]"):
        _, _ = job
    with pytest.raises(AttributeError, match=r"write job\['stdout'\]"):
        _ = job.stdout
    assert not hasattr(job, "__array__")


def test_a_job_is_no_key(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    @orch.job
    def look() -> Any:
        return {1: 2}[f(1)]

    World(tmp_path).outcome(look())
    assert "A job has no value yet, so it cannot be looked up" in capfd.readouterr().err


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.Enum):
    ROUND = object()


def test_enums_in_results() -> None:
    assert result_text([Level.LOW, Kind.ROUND, {Kind.ROUND: 1}], str) == '[1, "ROUND", {"ROUND": 1}]'


# Services in the wrong place ------------------------------------------------------------------------------------------


class Server(orch.Service):
    def start(self) -> str:
        return "up"


@pytest.mark.parametrize("name", ["add_child", "add_follow_on", "add_service", "encapsulate"])
def test_a_service_has_nothing_that_belongs_to_it(name: str) -> None:
    server: Any = Server()
    with pytest.raises(AttributeError, match=f"service Server has no {name}: .* Add it to the job"):
        getattr(server, name)(f())
    with pytest.raises(AttributeError, match="'Server' object has no attribute 'port'"):
        _ = server.port


def test_a_service_is_no_child_and_no_value() -> None:
    with pytest.raises(UserError, match=r"^add_child: Server is a service: it is added with add_service$"):
        f().add_child(Server())
    with pytest.raises(WorkflowError) as caught:
        gather(f(Server()))
    assert str(caught.value).startswith("job f(…): argument 'x': the service Server cannot be passed on: pass what")


# What is no function --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [max, functools.partial(str, "x")])
def test_what_has_no_name_or_parameters_is_no_job(function: Any) -> None:
    with pytest.raises(UserError, match="whose name or parameters cannot be known: write a function with def"):
        orch.job(function)


def test_a_function_in_c_is_one(tmp_path: Path) -> None:
    assert World(tmp_path).evaluate(orch.job(len)([1, 2])) == 2
