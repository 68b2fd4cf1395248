"""Children, follow-ons, capsules, classes, parts of values and promised resources, in whole runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from flows import related
from support.command import orch as command

import orch
from orch.bus.events import Submitting

FLOW = """
import orch

@orch.job
def step(*values):
    return values

@orch.workflow
def main():
    a = step.options(name="a")()
    f = a.add_follow_on(step.options(name="f")())
    a.add_child(step.options(name="c")(f))
    return a
"""


class Said:
    """What the bodies of a run have written, in the order in which they did: +name, and at the end -name."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text(encoding="utf-8").splitlines()
        assert len(set(self.lines)) == len(self.lines), "a body ran twice"

    def __getitem__(self, line: str) -> int:
        return self.lines.index(line)

    def all_before(self, name: str, prefix: str) -> None:
        """Every body whose name begins with `prefix` has ended before `name` began."""
        last = max(self[line] for line in self.lines if line.startswith(f"-{prefix}"))
        assert last < self[f"+{name}"], self.lines


def ran(place: Path, workflow: Any, **options: Any) -> tuple[Any, Said]:
    """The value of a workflow, and what its bodies wrote."""
    said = place / "said"
    value = orch.run(workflow, store=place / "s", said=str(said), **options)
    return value, Said(said)


def failed(place: Path, workflow: Any) -> dict[str, str]:
    """Run what must fail: why each job did, by name."""
    with pytest.raises(orch.RunFailed) as raised:
        orch.run(workflow, store=place / "s")
    return {each.job.name: each.job.message for each in raised.value.failures}


def test_children_run_after_their_parent_and_follow_ons_after_all_below(tmp_path: Path) -> None:
    value, said = ran(tmp_path, related.tree)
    assert value == "last a"
    assert len(said.lines) == 2 * 12
    for parent, child in (("a", "ax"), ("a", "ay"), ("ax", "axx"), ("ax", "axy"), ("ay", "ayx"), ("ay", "ayy")):
        assert said[f"-{parent}"] < said[f"+{child}"]
    for follow_on in ("ax", "ay"):
        said.all_before(f"{follow_on}!", f"{follow_on}x")
        said.all_before(f"{follow_on}!", f"{follow_on}y")
    for follow_on in ("a!", "last"):
        said.all_before(follow_on, "ax")  # also what ax's follow-on is, which is below a
        said.all_before(follow_on, "ay")
    assert said["-last"] < said["+very last"]


def test_a_job_with_several_predecessors_runs_once_after_all(tmp_path: Path) -> None:
    value, said = ran(tmp_path, related.predecessors)
    assert value == {"join": "join value", "below": "below"}
    for name in ("first", "second", "third", "value", "below"):
        assert said[f"-{name}"] < said["+join"]


def test_who_takes_a_value_does_not_wait_for_the_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    value, _ = ran(tmp_path, related.consumer, pipe=str(pipe))
    assert value == [None, "parent"]


def test_a_capsule_is_one_job_to_the_outside(tmp_path: Path) -> None:
    value, said = ran(tmp_path, related.capsule)
    assert value == {"whole": "a", "outer": "a", "child": "child a", "after": "after"}
    assert said["-before"] < said["+a"]
    said.all_before("child", "ax")
    said.all_before("child", "ay")
    assert said["-a!"] < said["+child"]
    said.all_before("child", "inner last")
    assert said["-child"] < said["+after"]


def test_jobs_that_are_objects_of_classes(tmp_path: Path) -> None:
    value, said = ran(tmp_path, related.classes)
    assert value == {"first": ["a", "b"], "second": ["b", "a", 400 << 20], "part": "a"}
    assert said["-Sort"] < said["+child"]
    assert said["-child"] < said["+follow-on"]
    assert "+Backwards" not in said.lines
    assert said["+grown"] > said["-Sort"]
    kinds = {job.kind for job in orch.replay(tmp_path / "s").values()}
    assert kinds == {"Sort", "Backwards", "step", "result"}  # the last looks for the part


def test_parts_of_values(tmp_path: Path) -> None:
    value = orch.run(related.parts, store=tmp_path / "s")
    assert value["shown"] == [["b", "c"], (1, 2)]
    assert value["one"] == value["same"] == ["b", "c"]
    assert value["whole"]["cores"] == 0.25


async def test_resources_from_values_need_no_jobs_of_their_own(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(related.promises)
        assert await run.result() == (0.5, 400 << 20, 51)
        assert {job.kind for job in run.jobs()} == {"nested", "number", "resources"}
        asked = next(job for job in run.jobs() if job.kind == "resources")
        events = [event async for event in run.events()]
    assert (asked.resources.cores, asked.resources.memory) == (0.5, 400 << 20)
    mine = [event for event in events if isinstance(event, Submitting) and str(event.job) == asked.id]
    assert [event.survey for event in mine] == [True, False]


def test_resources_that_cannot_be_are_explained(tmp_path: Path) -> None:
    found = failed(tmp_path, related.bad_promises)
    assert "memory: the value given for it: '10 wombats' is not a size" in found["memory text"]
    assert "cores: the value given for it is '10 wombats': cores must be a number above 0" in found["cores text"]
    assert "memory: wanted 888 PiB, available" in found["memory huge"]
    assert "cores: the value given for it is 1000000000000000000: that is too much" in found["cores huge"]
    assert "ZeroDivisionError" in found["disk raises"]
    assert len(found) == 5


def test_a_value_asked_for_too_early_names_both_jobs(tmp_path: Path) -> None:
    found = failed(tmp_path, related.early)
    assert len(found) == 4
    for name, message in found.items():
        assert "<job inner>" in message
        assert f"gets it only after {name} [job" in message
    with pytest.raises(orch.WorkflowError, match=r"<job inner> cannot be tested for truth: it has no value yet"):
        orch.run(related.early_at_once, store=tmp_path / "other")


SAID = {
    "cycle": "these jobs wait for each other: a is a child of c; c is a child of b; b is a child of a",
    "cycle_of_follow_ons": "these jobs wait for each other: a is a child of b; b is a follow-on of a",
    "cycle_below": "job late waits for the value of last, which can only be known after late itself: last is a "
    "follow-on of a; b is a child of a; late is a child of b",
    "unreachable": "these jobs are children, follow-ons or services of each other, and nothing leads to them: lost",
    "own_future": "job c waits for the value of f, which can only be known after c itself",
    "checkpoint": "b cannot be a child of job point, which is a checkpoint",
    "twice": "job b is already a child of job a",
    "own_child": "job a cannot be its own child",
}


@pytest.mark.parametrize("mistake", SAID)
def test_mistakes_are_found_before_anything_runs(tmp_path: Path, mistake: str) -> None:
    with pytest.raises((orch.GraphError, orch.WorkflowError)) as raised:
        orch.run(related.mistaken, store=tmp_path / "s", mistake=mistake)
    assert SAID[mistake] in str(raised.value)
    runs = tmp_path / "s" / "runs"
    assert not runs.exists() or not list(runs.iterdir())


def test_the_same_mistakes_inside_a_job_are_failed_attempts(tmp_path: Path) -> None:
    found = failed(tmp_path, related.mistaken_inside)
    assert found.keys() == SAID.keys() == related.MISTAKES.keys()
    for mistake, message in found.items():
        assert SAID[mistake] in message


def test_the_command_says_what_is_wrong_and_leaves_nothing(tmp_path: Path) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(FLOW)
    done = command("run", "--store", "s", flow, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "job c waits for the value of f, which can only be known after c itself" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s" / "runs").exists() or not list((tmp_path / "s" / "runs").iterdir())


@pytest.mark.parametrize(("workflow", "jobs", "expected"), [("wide", 2000, 2000), ("deep", 300, 299)])
def test_many_jobs(tmp_path: Path, workflow: str, jobs: int, expected: int) -> None:
    """Each body once, though a chain is 300 deep, or a job adds 2,000 children."""
    value = orch.run(getattr(related, workflow), store=tmp_path / "s", jobs=jobs)
    assert value == expected


def test_a_descent_of_jobs_that_make_jobs(tmp_path: Path) -> None:
    assert orch.run(related.descent, store=tmp_path / "s", jobs=100) == 100
    states = [job.state for job in orch.replay(tmp_path / "s").values()]
    assert states == ["done"] * 103
