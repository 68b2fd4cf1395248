"""Jobs that are objects of users' classes."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
from support.attempts import World, gather
from support.graphs import RUNNING, made, named, relations

import orch
from orch.authoring.scope import Scope
from orch.errors import JobError, UserError, WorkflowError


class Sort(orch.Job):
    def __init__(self, data: Any, memory: Any = "2 GiB", **options: Any) -> None:
        super().__init__(memory=memory, cores=2, **options)
        self.data = data

    def run(self) -> Any:
        return sorted(self.data)


class Later(orch.Job):
    def __init__(self, x: int) -> None:
        self.x = x

    async def run(self) -> int:
        await asyncio.sleep(0)
        return self.x + 1


@dataclasses.dataclass
class Record(orch.Job):
    name: str
    count: int = 2

    def run(self) -> Any:
        return self.name * self.count


class Slotted(Sort):
    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__([2, 1])
        self.extra = 3

    def run(self) -> Any:
        return [*super().run(), self.extra]


class Parent(orch.Job):
    def __init__(self, child: str) -> None:
        super().__init__(name="parent")
        self.child = child

    def run(self) -> Any:
        last = self.add_follow_on(named("last"))
        return [self.add_child(named(self.child)), last["x"]]


def test_an_object_is_a_job() -> None:
    job = Sort([3, 1])
    record = gather(job).jobs[0]
    assert isinstance(job, orch.Job)
    assert repr(job) == "<job Sort(…)>"
    assert (job.kind, job.name, record.kind, record.name) == ("Sort", "Sort(…)", "Sort", "Sort(…)")
    assert (record.resources.memory, record.resources.cores) == (2 * 2**30, 2.0)
    assert gather(job).alias


def test_it_runs(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.value(Sort([3, 1, 2])) == [1, 2, 3]
    assert world.value(Later(1)) == 2
    assert world.value(Record("ab")) == "abab"
    assert world.value(Slotted()) == [1, 2, 3]


def test_it_takes_values_and_stands_for_one(tmp_path: Path) -> None:
    @orch.job
    def numbers() -> list[int]:
        return [5, 3, 4]

    first = Sort(numbers())
    second = Sort([first[0], first.value(2), 9])
    assert World(tmp_path).evaluate({"all": second, "least": second[0]}) == {"all": [3, 5, 9], "least": 3}


def test_a_class_without_an_importable_name(tmp_path: Path) -> None:
    class Local(orch.Job):
        def __init__(self, x: int) -> None:
            super().__init__(name="local one")
            self.x = x

        def run(self) -> int:
            return self.x * 2

    assert (Local(2).kind, Local(2).name) == ("Local", "local one")
    assert World(tmp_path).value(Local(4)) == 8


def test_attributes_may_have_the_names_of_ours() -> None:
    record = Record("mine")
    assert record.name == "mine"
    assert gather(record).jobs[0].name == "Record('mine')"


def test_attributes_that_are_set_later_count(tmp_path: Path) -> None:
    job = Sort([1])
    job.data = [4, 3]
    assert World(tmp_path).value(job) == [3, 4]


def test_jobs_are_added_to_it_outside_of_it_and_inside(tmp_path: Path) -> None:
    def build() -> Any:
        parent = Parent("x")
        parent.add_child(named("outside"))
        return parent

    assert relations(made(build).jobs) == {"parent": {}, "outside": {"parents": ["parent"]}}
    outcome = World(tmp_path).outcome(Parent("inside"))
    assert outcome.reason == "FINISHED", outcome.message
    assert relations(outcome.jobs) == {"inside": {"parents": ["MAKER"]}, "last": {"follows": ["MAKER"]}}


def test_the_running_job_is_no_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Odd(orch.Job):
        def __init__(self, what: Any) -> None:
            self.what = what

        def run(self) -> Any:
            return self.what(self)

    world = World(tmp_path)
    for what, message in [
        (lambda me: named("other", me), "has no value before its run() has returned"),
        (lambda me: me, "has no value before its run() has returned"),
        (lambda me: me["x"], "has no value before its run() has returned"),
        (lambda me: me.encapsulate(), "has no value before its run() has returned"),
        (lambda me: orch.context().add_child(me), "cannot be its own child"),
        (lambda me: me.nothing, "has no attribute 'nothing'"),
    ]:
        outcome = world.outcome(Odd(what))
        assert outcome.reason == "FAILED"
        assert message in outcome.message
    assert "Odd" in capfd.readouterr().err


def test_a_class_says_what_to_run() -> None:
    class Empty(orch.Job): ...

    class Generator(orch.Job):
        def run(self) -> Any:
            yield 1

    with pytest.raises(UserError, match=r"class .*Empty has no method run"):
        Empty()
    with pytest.raises(UserError, match=r"Generator.run is a generator"):
        Generator()
    with pytest.raises(UserError, match=r"orch\.Job is a class to derive from"):
        orch.Job()


def test_bad_options_name_the_class() -> None:
    with pytest.raises(UserError, match="job Sort: memory='much'"):
        Sort([1], memory="much")
    with pytest.raises(UserError, match="job Sort: unknown option 'colour'"):
        Sort([1], colour=1)


def test_a_missing_attribute() -> None:
    job = Sort([1])
    with pytest.raises(
        AttributeError, match=r"'Sort' object has no attribute 'size'; a part of its value is job\['size'\]"
    ):
        _ = job.size  # type: ignore[attr-defined]


def test_what_cannot_be_pickled_is_named_by_its_attribute() -> None:
    with pytest.raises(
        WorkflowError, match=r"job Sort\(…\): attribute 'data', item \[1\]: cannot pickle '_thread.lock'"
    ):
        gather(Sort([1, threading.Lock()]))


def test_objects_that_hold_themselves() -> None:
    job = Sort([1])
    job.data = [job]
    with pytest.raises(orch.GraphError, match=r"job Sort\(…\) needs its own value"):
        gather(job)


def test_it_remembers_the_user_s_line() -> None:
    with Scope() as scope:
        Sort([1])
        Parent("x")
    assert {call.where[0] for call in scope.calls} == {__file__}
    assert scope.calls[1].where[1] == scope.calls[0].where[1] + 1


# Values that are asked for too early ----------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [bool, int, list, lambda job: job == 3, lambda job: job + 1, lambda job: f"{job}"])
def test_a_value_that_is_asked_for_too_early_names_both_jobs(use: Any) -> None:
    with pytest.raises((WorkflowError, TypeError)) as raised:
        made(lambda: use(named("inner")), RUNNING)
    assert "<job inner>" in str(raised.value)
    assert "gets it only after outer(1) [job 7] has ended" in str(raised.value)


def test_outside_of_a_running_job_it_has_no_value_yet_either() -> None:
    with pytest.raises(WorkflowError, match=r"<job inner> cannot be tested for truth: it has no value yet\. Pass"):
        made(lambda: bool(named("inner")))


def test_nothing_runs_without_a_job() -> None:
    with pytest.raises(JobError, match="works inside a running job"):
        orch.context()
