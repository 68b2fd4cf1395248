"""Children, follow-ons, capsules: how they come into the records of new jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.graphs import RUNNING, WORKFLOW, made, named, relations
from support.work import lines_run

import orch
from orch.attempt import MAKER, Place
from orch.errors import JobError
from orch.work.framing import MakePlan
from orch.work.loader import LoadedWorkflow
from orch.work.manifest import Manifest
from orch.work.planner import make_plan


def test_children_and_follow_ons_come_along_with_their_job() -> None:
    def build() -> Any:
        a = named("a")
        a.add_child(named("b")).add_child(named("c"))
        a.add_follow_on(named("d", a))
        return a

    parts = made(build)
    assert relations(parts.jobs) == {
        "a": {},
        "b": {"parents": ["a"]},
        "c": {"parents": ["b"]},
        "d": {"needs": ["a"], "follows": ["a"]},
    }
    assert (parts.alias, parts.refs, parts.warnings) == (True, [0], [])


def test_whatever_leads_to_one_of_them_leads_to_all() -> None:
    def build(returned: str) -> Any:
        jobs = {name: named(name) for name in "abcd"}
        jobs["a"].add_child(jobs["b"])
        jobs["c"].add_follow_on(jobs["b"])
        jobs["d"].add_child(jobs["c"])
        return [jobs[returned]["x"]]

    for returned in "abcd":
        found = relations(made(lambda returned=returned: build(returned)).jobs)  # type: ignore[misc]
        assert found == {
            "a": {},
            "d": {},
            "c": {"parents": ["d"]},
            "b": {"parents": ["a"], "follows": ["c"]},
        }


def test_a_job_with_several_predecessors_is_one_job() -> None:
    def build() -> Any:
        first, second, last = named("first"), named("second"), named("last")
        assert first.add_child(last) is last
        second.add_child(last)
        return [first, second]

    assert relations(made(build).jobs)["last"] == {"parents": ["first", "second"]}


@pytest.mark.parametrize("who", [RUNNING, WORKFLOW])
def test_what_is_added_to_the_running_job_has_it_above(who: Any) -> None:
    def build() -> Any:
        child = orch.context().add_child(named("child"))
        last = orch.context().add_follow_on(named("last", child))
        last.add_child(named("later"))
        return child.add_child(named("lower"))

    parts = made(build, who)
    assert relations(parts.jobs) == {
        "child": {"parents": ["MAKER"]},
        "lower": {"parents": ["child"]},
        "last": {"needs": ["child"], "follows": ["MAKER"]},
        "later": {"parents": ["last"]},
    }
    assert parts.jobs[0].parents == [MAKER]


def test_a_capsule_begins_before_its_job_and_ends_after_all_that_follows_from_it() -> None:
    def build() -> Any:
        inner = named("inner")
        inner.add_child(named("below"))
        capsule = inner.encapsulate()
        named("before").add_child(capsule)
        capsule.add_child(named("after"))
        return named("user", capsule["part"])

    parts = made(build)
    assert relations(parts.jobs) == {
        "before": {},
        "inner: begin": {"parents": ["before"]},
        "inner": {"parents": ["inner: begin"]},
        "below": {"parents": ["inner"]},
        "inner: end": {"needs": ["inner"], "follows": ["inner: begin"]},
        "after": {"parents": ["inner: end"]},
        "user": {"needs": ["inner: end"]},
    }
    assert {new.form for new in parts.jobs if ":" in new.name} == {"group"}
    assert {new.body.size for new in parts.jobs if new.form == "group"} == {0}


def test_capsules_in_capsules() -> None:
    def build() -> Any:
        inner = named("x").encapsulate()
        outer = inner.encapsulate()
        outer.add_follow_on(named("last"))
        return outer

    parts = made(build)
    places = {new.name: number for number, new in enumerate(parts.jobs)}
    end = parts.jobs[parts.refs[0]]
    begin = parts.jobs[end.follows[0]]
    inner_end = parts.jobs[end.needs[0]]
    inner_begin = parts.jobs[inner_end.follows[0]]
    assert (begin.form, begin.parents, inner_end.needs) == ("group", [], [places["x"]])
    assert inner_begin.parents == [end.follows[0]]
    assert parts.jobs[places["last"]].follows == parts.refs
    assert {new.name for new in parts.jobs} == {"x", "x: begin", "x: end", "last"}


def test_parts_of_jobs_are_related_as_the_jobs_are() -> None:
    def build() -> Any:
        a, b = named("a"), named("b")
        part = b["key"]
        assert a["x"].add_child(part) is part
        return a

    assert relations(made(build).jobs)["b"] == {"parents": ["a"]}


def test_type_checkers_are_told_what_is_a_job() -> None:
    @orch.job
    def number() -> int:
        return 1

    def build() -> Any:
        first: orch.Job = orch.as_job(number())
        second: int = first.add_child(number())
        return [first, second]

    assert [len(new.parents) for new in made(build).jobs] == [0, 1]
    with pytest.raises(orch.UserError, match="3 is no job"):
        orch.as_job(3)


def test_the_running_job_is_not_there_outside_of_one() -> None:
    with pytest.raises(JobError, match=r"orch.context\(\) works inside a running job"):
        orch.context().add_child(named("a"))


# Parts of values ------------------------------------------------------------------------------------------------------


def test_parts_can_be_named_one_after_the_other() -> None:
    a = named("a")
    part = a.value("path", 0, slice(1, 3))
    assert part == a["path"][0][1:3]
    assert hash(part) == hash(a["path"][0][1:3])
    assert part != a["path"][0][1:4]
    assert len({part, a["path"][0][1:3], a[(slice(1, None), 0)], a[1:, 0]}) == 2
    assert repr(part) == "<job a['path'][0][1:3]>"
    assert repr(a[::2]) == "<job a[::2]>"
    assert a.value() == a


# Work -----------------------------------------------------------------------------------------------------------------


def _fan(relation: str) -> Any:
    def build(count: int) -> Any:
        a = named("a")
        last = named("last")
        for number in range(count):
            child = named(f"{number}")
            getattr(a, relation)(child)
            child.add_child(last)
        return a

    return build


def _chain(relation: str) -> Any:
    def build(count: int) -> Any:
        first = last = named("a")
        for number in range(count):
            last = getattr(last, relation)(named(f"{number}"))
        return [first, last["x"]]

    return build


def _capsules(count: int) -> Any:
    a = named("a")
    for number in range(count):
        a = a.encapsulate()
        a.add_child(named(f"{number}"))
    return a


@pytest.mark.parametrize(
    "build", [_fan("add_child"), _fan("add_follow_on"), _chain("add_child"), _chain("add_follow_on"), _capsules]
)
def test_work_is_linear_in_the_number_of_relations(build: Any) -> None:
    small, large = (lines_run(lambda count=count: made(lambda: build(count))) for count in (200, 2_000))  # type: ignore[misc]
    assert large < 12 * small


# As planned -----------------------------------------------------------------------------------------------------------


def planned(tmp_path: Path, function: Any) -> Any:
    """What the planner makes of a workflow function, in this process."""
    place = Place(store=str(tmp_path / "store"), scratch=str(tmp_path / "scratch"), host="here")
    loaded = LoadedWorkflow(Manifest(), None, orch.workflow(function))
    return make_plan(loaded, MakePlan(place, "run", None, b""))


def test_a_value_with_parts_of_follow_ons_is_put_together_after_them(tmp_path: Path) -> None:
    def main() -> Any:
        named("a").add_child(named("b"))
        last = orch.context().add_follow_on(named("last"))
        return {"part": last["x"], "other": orch.context().add_child(named("c"))}

    with pytest.raises(orch.GraphError, match="nothing leads to them"):
        planned(tmp_path, main)

    def mended() -> Any:
        last = orch.context().add_follow_on(named("last"))
        return {"part": last["x"], "other": orch.context().add_child(named("c"))}

    plan = planned(tmp_path, mended)
    found = relations(plan.jobs)
    assert found["last"] == {"follows": ["MAKER"]}
    (assembled,) = [found[name] for name in found if name.startswith("result")]
    assert assembled == {"needs": ["last", "c"], "follows": ["MAKER"]}
    assert plan.alias


def test_without_follow_ons_it_is_put_together_beside_the_others(tmp_path: Path) -> None:
    plan = planned(tmp_path, lambda: [named("a")["x"]])
    assert plan.jobs[plan.refs[0]].follows == []
