"""When nothing but services can move: what is a deadlock, what is none, and what is said of it."""

from __future__ import annotations

import msgspec
import pytest
from support.folded import Folded, begun, submitting

from orch.adapters.contract import Capacity
from orch.bus import events as ev
from orch.bus.events import Accelerator, Resources
from orch.state.deadlock import deadlock
from orch.state.decide import Limits

HOST = Capacity(cores=4, memory=4 << 30, disk=4 << 30, accelerators=(Accelerator("gpu", 2, "k80"),))
LIMITS = Limits(slots=4, ahead=64)


def run(service: Resources, user: Resources, *, queued: bool = True) -> Folded:
    """A service of the workflow that is up, and a user that waits for room."""
    told = begun()
    told.then(
        ev.Added(job=1, kind="Db", name="db", serves=0, form="service", resources=service),
        ev.Added(job=2, kind="use", name="user", needs=[1], resources=user),
        ev.Planned(count=2, refs=[2]),
        submitting(1),
        ev.Running(job=1, attempt=1),
    )
    assert deadlock(told.state, HOST, LIMITS) == "", "it may come up yet"
    told.then(ev.Serving(job=1, attempt=1))
    if queued:
        told.then(submitting(2), ev.Submitted(job=2, attempt=1))
    return told


GPU = Accelerator("gpu", 1)


@pytest.mark.parametrize(
    ("service", "user", "said"),
    [
        (Resources(cores=4), Resources(cores=0.5), "cores: wanted 0.5, available 0"),
        (Resources(memory=3 << 30), Resources(memory=2 << 30), "memory: wanted 2 GiB, available 1 GiB"),
        (Resources(disk=4 << 30), Resources(disk=1 << 30), "disk: wanted 1 GiB, available 0 B"),
        (
            Resources(accelerators=(GPU,)),
            Resources(accelerators=(GPU, GPU)),
            "accelerators: wanted 2 gpu, available 2 gpu k80, of which services hold 1 gpu",
        ),
    ],
)
def test_services_that_leave_no_room(service: Resources, user: Resources, said: str) -> None:
    state = run(service, user).state
    found = deadlock(state, HOST, LIMITS)
    assert found == (
        f"only services run (db [1]), and what needs them can never get room: user [2]; {said}. "
        "Give the run more, or the services less"
    )


@pytest.mark.parametrize(
    ("service", "user"),
    [
        (Resources(cores=3.7), Resources(cores=0.3)),
        (Resources(cores=3, accelerators=(GPU,)), Resources(accelerators=(GPU,))),
        (Resources(memory=4 << 30), Resources()),
    ],
)
def test_services_that_leave_room(service: Resources, user: Resources) -> None:
    assert deadlock(run(service, user).state, HOST, LIMITS) == ""


def test_what_is_queued_where_there_may_be_more_room_is_waited_for() -> None:
    elastic = msgspec.structs.replace(HOST, elastic=True)
    state = run(Resources(cores=4), Resources()).state
    assert deadlock(state, elastic, LIMITS) == ""
    assert deadlock(state, HOST, LIMITS)


def test_limits_of_ones_own_leave_no_room() -> None:
    told = run(Resources(), Resources(), queued=False)
    assert deadlock(told.state, HOST, LIMITS) == ""
    assert "user [2]; --max-jobs is 1" in deadlock(told.state, HOST, msgspec.structs.replace(LIMITS, jobs=1))


def test_a_service_on_top_of_a_service_that_may_not_start() -> None:
    told = begun()
    told.then(
        ev.Added(job=1, kind="Db", name="lower", serves=0, form="service"),
        ev.Added(job=2, kind="Db", name="upper", serves=0, form="service", parents=[1]),
        ev.Added(job=3, kind="use", name="user", needs=[2]),
        ev.Planned(count=3, refs=[3]),
        submitting(1),
        ev.Running(job=1, attempt=1),
        ev.Serving(job=1, attempt=1),
    )
    one = msgspec.structs.replace(LIMITS, lanes={"service": 1})
    assert "upper [2]; the limit for a service is 1" in deadlock(told.state, HOST, one)
    assert deadlock(told.state, HOST, msgspec.structs.replace(LIMITS, lanes={"service": 2})) == ""


def test_a_run_that_is_paused_or_cancelled_is_no_deadlock() -> None:
    for what in ("pause", "cancel", "stop"):
        told = run(Resources(cores=4), Resources())
        told.then(ev.Requested(what=what))
        assert deadlock(told.state, HOST, LIMITS) == ""


def test_another_job_that_runs_may_make_room() -> None:
    told = run(Resources(cores=2), Resources(cores=4))
    told.then(ev.Running(job=2, attempt=1))
    assert deadlock(told.state, HOST, LIMITS) == ""
