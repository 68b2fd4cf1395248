"""Options: how they are read, and how they come into the records of new jobs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.attempts import gather
from support.graphs import job, named, relations

import orch
from orch.attempt import NewJob
from orch.authoring.pickling import loads
from orch.authoring.promises import Promised
from orch.bus.events import Accelerator, Retry
from orch.errors import UserError, WorkflowError


class Odd(Exception):
    pass


def record(**options: Any) -> NewJob:
    return gather(job.options(**options)("x")).jobs[-1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, [Accelerator()]),
        (0, []),
        ("2", [Accelerator(count=2)]),
        ("gpu", [Accelerator()]),
        ("GPU:2", [Accelerator("gpu", 2)]),
        ("fpga", [Accelerator("fpga")]),
        ("nvidia-tesla-k80:2", [Accelerator("gpu", 2, "nvidia-tesla-k80")]),
        ("nvidia", [Accelerator("gpu", 1, "nvidia")]),
        ({"kind": "gpu", "count": 3, "model": "h100"}, [Accelerator("gpu", 3, "h100")]),
        ({"kind": "gpu"}, [Accelerator()]),
        (["gpu:2", "fpga", 1], [Accelerator("gpu", 3), Accelerator("fpga")]),
        (Accelerator("tpu"), [Accelerator("tpu")]),
    ],
)
def test_accelerators(given: Any, expected: list[Accelerator]) -> None:
    assert list(record(accelerators=given).resources.accelerators) == expected


@pytest.mark.parametrize(
    "given", [True, -1, 1.5, "gpu:many", ":2", "", {"kind": 3}, {"speed": 1}, {"count": "2"}, [None]]
)
def test_bad_accelerators(given: Any) -> None:
    with pytest.raises(UserError, match="job job: accelerators="):
        record(accelerators=given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, ["exit:3"]),
        ("MEMLIMIT", ["reason:MEMLIMIT"]),
        (ValueError, ["error:builtins.ValueError"]),
        (Odd, [f"error:{__name__}.Odd"]),
        ("connection (reset|refused)", ["message:connection (reset|refused)"]),
        (re.compile("Reset", re.IGNORECASE), ["message:(?i)Reset"]),
        ([1, "LOST", OSError, 1], ["exit:1", "reason:LOST", "error:builtins.OSError"]),
    ],
)
def test_what_a_job_is_tried_again_after(given: Any, expected: list[str]) -> None:
    assert list(record(retry_on=given).retry.on) == expected
    assert list(record(no_retry_on=given).retry.never) == expected


@pytest.mark.parametrize("given", [True, 1.5, int, "(", "", "FINISHED", re.compile(b"x"), [[1]], "(a+)+$"])
def test_what_it_cannot_be_tried_again_after(given: Any) -> None:
    with pytest.raises(UserError, match="job job: retry_on="):
        record(retry_on=given)


def test_escalation_and_back_off() -> None:
    assert record().retry == Retry()
    assert record(retry_backoff="1 min").retry.backoff == 60.0
    assert record(memory_escalation=False).retry.memory_factor == 1.0
    assert record(memory_escalation=True).retry == Retry()
    assert record(memory_escalation=(3, "64 GiB")).retry == Retry(memory_factor=3.0, memory_cap=64 * 2**30)
    assert record(walltime_escalation=(1.5, "2h")).retry == Retry(time_factor=1.5, time_cap=7200.0)
    assert record(walltime_escalation=True, retry_on=3).retry == Retry(time_factor=2.0, on=("exit:3",))
    for bad in (0.5, "much", (2, 3, 4), (2, "much")):
        with pytest.raises(UserError, match="job job: memory_escalation="):
            record(memory_escalation=bad)


def test_where_and_how_it_runs() -> None:
    new = record(preemptible=True, local=True, priority=-3, checkpoint=True, version="3", cores=0.1)
    assert (new.preemptible, new.resources.cores) == (True, 0.1)
    assert (new.local, new.priority, new.checkpoint) == (True, -3, True)
    for option in ("preemptible", "local", "checkpoint", "cache"):
        with pytest.raises(UserError, match=f"job job: {option}='yes': this is True or False"):
            record(**{option: "yes"})
    with pytest.raises(UserError, match="priority must be a whole number"):
        record(priority=1.5)


def test_a_version_means_that_the_value_may_be_kept() -> None:
    assert (record().cache, record(cache=True).cache, record(version="3").cache) == (None, True, True)
    assert record(version="3", cache=False).cache is False
    assert record(version="3").version == "3"


def test_commands_and_changed_options() -> None:
    new = gather(orch.command(["true"], accelerators=2, retry_on=1, cache=True, local=True)).jobs[0]
    assert (new.resources.accelerators, new.retry.on, new.cache, new.local) == (
        (Accelerator("gpu", 2),),
        ("exit:1",),
        True,
        True,
    )
    base = job.options(memory="1 GiB", retry_backoff=5, priority=1)
    changed = gather(base.options(retry_on=3, priority=None)("x")).jobs[0]
    assert (changed.resources.memory, changed.retry, changed.priority) == (2**30, Retry(backoff=5.0, on=("exit:3",)), 1)


# What depends on values -----------------------------------------------------------------------------------------------


def wanted_of(new: NewJob) -> Any:
    return loads(new.wanted.data, lambda number, path: (number, *path))


def test_resources_that_are_values_of_jobs() -> None:
    first, second = named("first"), named("second")
    parts = gather(named("user", second, memory=first["size"], disk=second, cores=2))
    new = parts.jobs[-1]
    assert relations(parts.jobs)["user"]["needs"] == ["second", "first"]
    assert wanted_of(new) == {"memory": (1, "size"), "disk": (0,)}
    assert (new.resources.memory, new.resources.cores) == (0, 2.0)


def test_resources_that_are_computed_from_values() -> None:
    a, b = named("a"), named("b")
    promise = orch.promised(lambda sizes: sum(sizes) + 1, [a["size"], b["size"]])
    parts = gather(named("user", b["other"], disk=promise))
    found = wanted_of(parts.jobs[-1])["disk"]
    assert relations(parts.jobs)["user"]["needs"] == ["b", "a"]
    assert isinstance(found, Promised)
    assert found.args == [(1, "size"), (0, "size")]
    assert Promised(found.fn, [1, 2]).resolve() == 4


def test_accelerators_with_a_job_inside() -> None:
    count = named("count")
    assert wanted_of(gather(named("user", accelerators={"kind": "gpu", "count": count})).jobs[-1]) == {
        "accelerators": {"kind": "gpu", "count": (0,)}
    }


def test_programs_and_classes_and_services_too() -> None:
    class Thing(orch.Job):
        def __init__(self, size: Any) -> None:
            super().__init__(memory=size)

        def run(self) -> None: ...

    class Server(orch.Service):
        def __init__(self, size: Any) -> None:
            super().__init__(memory=size)

        def start(self) -> None: ...

    size = named("size")
    made = [orch.command(["true"], memory=size), Thing(size), named("a").add_service(Server(size))]
    for node in made:
        parts = gather(node)
        assert wanted_of(parts.jobs[parts.refs[0]]) == {"memory": (0,)}
    assert gather(made[0]).jobs[-1].form == "command"


def test_a_later_option_takes_the_place_of_an_earlier_one() -> None:
    dependent = job.options(memory=named("size"))
    assert gather(dependent.options(memory="1 GiB")("x")).jobs[-1].wanted.size == 0
    assert wanted_of(gather(job.options(memory="1 GiB").options(memory=named("size"))("x")).jobs[-1]) == {
        "memory": (0,)
    }


def test_only_resources_depend_on_values() -> None:
    for option in ("retries", "priority", "name", "preemptible"):
        with pytest.raises(UserError, match=f"job job: {option}="):
            record(**{option: named("a")})


def test_what_cannot_be_promised() -> None:
    for bad in (3, job):
        with pytest.raises(UserError, match=r"orch\.promised takes a plain function"):
            orch.promised(bad, [1])  # type: ignore[arg-type]
    with pytest.raises(WorkflowError, match=r"job user: option disk, item \.args\[0\]: cannot pickle 'generator'"):
        gather(named("user", disk=orch.promised(sum, [(x for x in [1])])))


def test_a_mistake_is_told_once() -> None:
    """Not as the last of a chain of exceptions."""
    mistakes = {
        "memory": "much",
        "retries": -1,
        "priority": "x",
        "accelerators": "gpu:x",
        "name": 3,
        "retry_on": "*busy*",
    }
    for option, value in mistakes.items():
        with pytest.raises(UserError) as caught:
            record(**{option: value})
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_what_is_wrong_with_a_pattern() -> None:
    with pytest.raises(UserError, match=r"retry_on='\*busy\*': .* regular expression.* at character 1: nothing to rep"):
        record(retry_on="*busy*")


def test_what_a_name_is_instead_of_a_text() -> None:
    with pytest.raises(UserError, match="name=<job a>: this must be a text, and not a job"):
        record(name=named("a"))
    with pytest.raises(UserError, match="name=3: this must be a text, and not a value of type int"):
        record(name=3)


@pytest.mark.parametrize("huge", [10**30, 10**400, 10**5000], ids=["30", "400", "5000"])
def test_numbers_that_no_log_can_hold(huge: int) -> None:
    for option in ("priority", "retries", "accelerators", "cores", "memory", "disk", "memory_escalation"):
        with pytest.raises(UserError, match=f"job job: {option}="):
            record(**{option: huge})
    with pytest.raises(UserError, match="a factor from 1 to 1000"):
        record(memory_escalation=1e308)
    assert record(priority=-(2**31) + 1, retries=2**31 - 1).retries == 2**31 - 1
    if huge > 10**308:
        with pytest.raises(UserError, match=r"job job: walltime=.* is not a duration"):
            record(walltime=huge)


def test_texts_that_no_log_can_hold() -> None:
    for option, value in {
        "name": "\ud800",
        "version": "a\ud800",
        "accelerators": {"kind": "\ud800"},
        "retry_on": "\ud800",
    }.items():
        with pytest.raises(UserError, match=f"job job: {option}=.* lone surrogates"):
            record(**{option: value})
    with pytest.raises(UserError, match=r"job job: accelerators=.* lone surrogates"):
        record(accelerators="\ud800:2")


def test_the_queue_and_what_is_passed_through() -> None:
    asked = record(queue=" long ", backend={"constraint": "ib", "nice": 5, "exclusive": True}).resources
    assert asked.queue == "long"
    assert asked.backend == (("constraint", "ib"), ("exclusive", ""), ("nice", "5"))


@pytest.mark.parametrize("given", [[1], {"": "x"}, {1: "x"}, {"x": None}, {"x": False}, {"x": "\udc80"}])
def test_bad_settings_to_be_passed_through(given: Any) -> None:
    with pytest.raises(UserError, match="job job: backend="):
        record(backend=given)
