"""Surveys: what a job asks for where that depends on values, and what its call is."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import World, gather

import orch
from orch.attempt import Attempt, NewJob, Outcome, Reason, Value
from orch.authoring.pickling import dumps
from orch.authoring.promises import Promised
from orch.bus.events import EMPTY, Accelerator, Blob, Call, Resources
from orch.store.layout import bundle_dir
from orch.work.manifest import MANIFEST

ASKED = Resources(cores=2, memory=1024, disk=7, walltime=60, preemptible=True)
ran: list[str] = []


@pytest.fixture
def world(tmp_path: Path) -> World:
    ran.clear()
    return World(tmp_path)


@orch.job
def work(x: Any, *rest: Any, y: Any = 2, **more: Any) -> Any:
    ran.append("work")
    return x, rest, y, more


@orch.job
def other(x: Any, y: Any = 2) -> Any:
    return x, y


class Number:
    """As libraries have them."""

    def __index__(self) -> int:
        return 4096


class Real:
    def __float__(self) -> float:
        return 0.5


def blob(value: Any) -> Blob:
    data, jobs = dumps(value)
    assert not jobs
    return Blob(data=data, size=len(data))


def attempt(world: World, job: Any, wanted: dict[str, Any] | None = None, **changes: Any) -> Attempt:
    made = world.attempt(gather(job).jobs[-1], resources=Resources(cores=0.1), asked=ASKED, survey=True)
    return msgspec.structs.replace(made, wanted=blob(wanted) if wanted else EMPTY, **changes)


def survey(world: World, job: Any, wanted: dict[str, Any] | None = None, **changes: Any) -> Outcome:
    if bundle := changes.get("bundle"):
        world.store.write_bytes(f"{bundle_dir(bundle)}/{MANIFEST}", b'{"paths": ["code"]}')
    outcome = world.run(attempt(world, job, wanted, **changes))
    assert ran == []
    return outcome


# What a job asks for ----------------------------------------------------------------------------------------------


def test_what_depends_on_nothing_is_as_it_was_asked(world: World) -> None:
    outcome = survey(world, work(1))
    assert (outcome.reason, outcome.resources, outcome.call) == (Reason.FINISHED, ASKED, None)
    assert survey(world, work(1), asked=None).resources == Resources(cores=0.1)


def change(world: World, **wanted: Any) -> dict[str, Any]:
    """What a survey says beyond what was asked for."""
    outcome = survey(world, work(1), wanted)
    assert outcome.reason == Reason.FINISHED, outcome.message
    found, before = msgspec.structs.asdict(outcome.resources), msgspec.structs.asdict(ASKED)  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if value != before[name]}


def three() -> Any:
    return 3


def test_sizes_and_numbers_are_read_like_options(world: World) -> None:
    assert change(world, memory="2 KiB", disk=10, cores=1.5, walltime="2min") == {
        "memory": 2048,
        "disk": 10,
        "cores": 1.5,
        "walltime": 120.0,
    }
    assert change(world, memory=Number(), cores=Real()) == {"memory": 4096, "cores": 0.5}
    assert change(world, accelerators="gpu:2") == {"accelerators": (Accelerator("gpu", 2),)}


def test_promised_functions_are_called(world: World) -> None:
    assert change(world, memory=Promised(sum, [1, 2]), disk=Promised(len, "abc")) == {"memory": 3, "disk": 3}
    counted = {"kind": "gpu", "count": Promised(len, "abc")}
    assert change(world, accelerators=[counted]) == {"accelerators": (Accelerator("gpu", 3),)}


def test_values_of_other_jobs_stand_in_it(world: World) -> None:
    """As collected: the references of `wanted` have the numbers of the job's needs."""
    size = work({"size": 5000})
    made = gather(work.options(memory=size["size"], disk=orch.promised(sum, [size["size"], 1]))(9))
    new = made.jobs[-1]
    assert new.wanted.size
    world.values[7] = Value(blob=blob({"size": 5000}), label="measure [job 7]")
    outcome = world.run(world.attempt(new, 9, [7], survey=True, wanted=new.wanted))
    assert outcome.resources is not None
    assert (outcome.resources.memory, outcome.resources.disk) == (5000, 5001)
    world.values[7] = Value(blob=blob({"length": 5000}), label="measure [job 7]")
    outcome = world.run(world.attempt(new, 9, [7], survey=True, wanted=new.wanted))
    assert outcome.reason == Reason.FAILED
    assert "work(9) [job 9] needs ['size'] of the value of measure [job 7], which does not have it" in outcome.message


def refused(world: World, **wanted: Any) -> str:
    outcome = survey(world, work(1), wanted)
    assert (outcome.reason, outcome.resources) == (Reason.FAILED, None)
    return outcome.message


def test_what_is_no_size_is_refused_with_the_job_and_the_option(world: World) -> None:
    assert refused(world, memory="lots").startswith(
        "work(1) [job 1]: memory: the value given for it: 'lots' is not a size: a size is a number of bytes"
    )
    assert refused(world, cores=Promised(len, "")).startswith(
        "work(1) [job 1]: cores: what the promised function returned is 0: cores must be a number above 0"
    )
    nothing: Any
    for nothing in (None, [], {"a": 1}, -1, True, float("nan")):
        assert "[job 1]: disk: the value given for it: " in refused(world, disk=nothing)
    assert "[job 1]: walltime: what the promised function returned: None" in refused(world, walltime=Promised(print, 1))


def test_a_promised_function_that_raises_fails_the_job(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(world, memory=Promised(int, "x")).startswith("ValueError: invalid literal")
    assert "(raised by the promised function for the option memory of work(1) [job 1])" in capsys.readouterr().err
    assert refused(world, memory=Promised(sys.exit, 3)) == "called sys.exit(3)"


# What a call is ---------------------------------------------------------------------------------------------------


def call(world: World, job: Any, bundle: str = "abc", version: str = "", **changes: Any) -> Call:
    outcome = survey(world, job, cache=True, bundle=bundle, version=version, **changes)
    assert outcome.warnings == []
    assert outcome.call is not None, outcome.message
    return outcome.call


def test_a_call_is_its_code_its_function_and_each_argument(world: World) -> None:
    found = call(world, work(1, z=3))
    assert found.code == "abc"
    assert found.parts.keys() == {"function", "x", "rest", "y", "more"}
    assert found == call(world, work(1, y=2, z=3))  # the default, said or not
    assert found == call(world, work.options(memory="1G", name="other")(1, z=3))


def differing(world: World, one: Any, two: Any, **changes: Any) -> set[str]:
    """The parts in which two calls differ; their digests do if one does."""
    first, second = call(world, one), call(world, two, **changes)
    assert (first.digest != second.digest) == (first != second)
    return {name for name in first.parts | second.parts if first.parts.get(name) != second.parts.get(name)}


def test_what_differs_is_told_by_its_name(world: World) -> None:
    assert differing(world, work(1), work(2)) == {"x"}
    assert differing(world, work(1), work(1, y=3)) == {"y"}
    assert differing(world, work(1), work(1, 2)) == {"rest"}
    assert differing(world, work(1), work(1, z=2)) == {"more"}
    assert differing(world, other(1), other("1", 2.0)) == {"x", "y"}
    assert differing(world, other(1, 2), work(1, y=2)) == {"function", "rest", "more"}


def test_other_code_is_another_call(world: World) -> None:
    codes = [call(world, work(1), bundle=bundle, version=version) for bundle, version in
             [("abc", ""), ("def", ""), ("abc", "1"), ("def", "1"), ("abc", "2")]]  # fmt: skip
    assert [each.code for each in codes] == ["abc", "def", "version:1", "version:1", "version:2"]
    assert len({each.digest for each in codes}) == 4
    assert codes[2] == codes[3]
    assert len({str(each.parts) for each in codes}) == 1


@orch.job
def named(function: Any) -> Any:
    return function


def test_an_argument_may_be_called_function(world: World) -> None:
    assert call(world, named(1)).parts.keys() == {"function", "argument function"}


class Sort(orch.Job):
    def __init__(self, data: Any, memory: str = "1K") -> None:
        super().__init__(memory=memory)
        self.data = data

    def run(self) -> Any:
        ran.append("sort")


def test_a_job_that_is_an_object_is_its_class_and_attributes(world: World) -> None:
    found = call(world, Sort([1]))
    assert found.parts.keys() == {"function", "data"}
    assert found == call(world, Sort([1], memory="2K"))
    assert differing(world, Sort([1]), Sort([2])) == {"data"}


FILE = orch.FileRef("a.txt", "runs/r/files/000/1.1/0/a.txt", 3, "sha256:abc")


def test_programs_are_their_arguments_and_files(world: World) -> None:
    def program(word: str = "x", file: Any = FILE, **rest: Any) -> Any:
        return orch.command(["cat", word, file], inputs={"in": FILE}, **rest)

    found = call(world, program())
    assert found.code == ""
    assert found.parts.keys() == {"function", "argv", "inputs", "stdin", "stdout", "stderr", "cwd", "env", "outputs"}
    moved = dataclasses.replace(FILE, path="runs/s/files/000/2.1/0/a.txt")
    assert found == call(world, program(file=moved), bundle="def")
    assert differing(world, program(), program("y")) == {"argv"}
    assert differing(world, program(), program(env={"A": "1"})) == {"env"}
    assert differing(world, program(), program(file=dataclasses.replace(FILE, digest="sha256:def"))) == {"argv"}
    assert call(world, program(), version="3").code == "version:3"


def test_programs_without_python_too(world: World) -> None:
    def program(word: str = "x", **rest: Any) -> NewJob:
        new = gather(orch.command(["echo", word], **rest)).jobs[0]
        assert new.form == "command"
        return new

    def of(new: NewJob) -> Call:
        made = world.attempt(new, form="fork", survey=True, cache=True)
        found = world.run(made).call
        assert found is not None
        assert found == world.run(msgspec.structs.replace(made, form="command")).call
        return found

    found = of(program())
    assert found.code == ""
    assert found.parts.keys() == {"function", "argv", "env", "stdin", "cwd"}
    assert found == of(program())
    for different in (program("y"), program(stdin="a"), program(env={"A": "1"})):
        assert of(different).digest != found.digest


def test_what_cannot_be_cached_is_told_and_costs_nothing_else(world: World) -> None:
    outcome = survey(world, work(1, y=LAMBDA), {"memory": "1K"}, cache=True, bundle="abc")
    assert (outcome.reason, outcome.call) == (Reason.FINISHED, None)
    assert outcome.resources is not None
    assert outcome.resources.memory == 1024
    why = f"{LAMBDA.__qualname__} has no name that can be imported: define it at the top of a module"
    assert outcome.warnings == [f"work(1, y=…) [job 1] cannot be cached: argument 'y': {why}"]


LAMBDA: Any = lambda: 3  # noqa: E731 - a name of its own is what it lacks


def test_a_function_without_a_name_needs_a_version(world: World) -> None:
    @orch.job
    def inner(x: int) -> int:
        return x

    (warning,) = survey(world, inner(1), cache=True).warnings
    assert "inner has no name that can be imported" in warning
    first = call(world, inner(1), version="1")
    assert first == call(world, inner(1), version="1")
    assert first.digest != call(world, work(1), version="1").digest


def test_only_what_may_be_cached_has_a_call(world: World) -> None:
    assert survey(world, work(1)).call is None
