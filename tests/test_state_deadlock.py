"""When nothing but services can move: what is a deadlock, what is none, and what is said of it."""

from __future__ import annotations

import msgspec
import pytest
from support.folded import Folded, begun, submitting

from orch.adapters.contract import Capacity
from orch.bus import events as ev
from orch.bus.events import Accelerator, Resources
from orch.state.deadlock import deadlock, waits_for_others
from orch.state.decide import Limits

HOST = Capacity(cores=4, memory=4 << 30, disk=4 << 30, accelerators=(Accelerator("gpu", 2, "k80"),))
LIMITS = Limits(slots=4, ahead=64)


def run(service: Resources, user: Resources, *, queued: bool = True, other: bool = False) -> Folded:
    """A service of the workflow that is up, and a user that waits for room; another job may be there."""
    told = begun()
    told.then(
        ev.Added(job=1, kind="Db", name="db", serves=0, form="service", resources=service),
        ev.Added(job=2, kind="use", name="user", needs=[1], resources=user),
        *((ev.Added(job=3, kind="use", name="other", retries=1),) if other else ()),
        ev.Planned(count=3 if other else 2, refs=[2]),
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


# Beside other runs ----------------------------------------------------------------------------------------------------


def test_a_run_that_fits_alone_waits_for_others_and_may_be_told_to_give_way() -> None:
    state = run(Resources(cores=1), Resources(cores=2)).state
    assert waits_for_others(state, HOST)
    assert deadlock(state, HOST, LIMITS) == ""
    told = msgspec.structs.replace(HOST, give_way="cores: 2 wanted, 1 of 4 free; run other holds 2 cores")
    assert deadlock(state, told, LIMITS) == (
        "only services run (db [1]), and what needs them can never get room beside those of other runs: user [2]; "
        "cores: 2 wanted, 1 of 4 free; run other holds 2 cores. Those runs wait for room, too, and this one has to "
        "give way: carry it on when they are over, or give the services less"
    )


def test_a_run_that_is_stuck_by_itself_waits_for_nobody() -> None:
    state = run(Resources(cores=4), Resources(cores=1)).state
    assert not waits_for_others(state, HOST)
    assert "cores: wanted 1, available 0" in deadlock(state, msgspec.structs.replace(HOST, give_way="cores"), LIMITS)


def test_what_may_get_room_elsewhere_waits_for_nobody() -> None:
    state = run(Resources(cores=1), Resources(cores=2)).state
    assert not waits_for_others(state, msgspec.structs.replace(HOST, elastic=True))


@pytest.mark.parametrize(
    "events",
    [
        [ev.Requested(what="pause")],
        [ev.Requested(what="cancel")],
        [ev.Running(job=2, attempt=1)],
        [
            *(submitting(3), ev.Running(job=3, attempt=1)),
            ev.Retrying(job=3, attempt=1, reason="FAILED", wait=60.0, charged=True),
        ],
    ],
    ids=["paused", "cancelled", "runs", "another backs off"],
)
def test_a_run_that_may_move_is_not_given_up_for_others(events: list[ev.Event]) -> None:
    told = run(Resources(cores=1), Resources(cores=2), other=True)
    told.then(*events)
    assert not waits_for_others(told.state, HOST)
    assert deadlock(told.state, msgspec.structs.replace(HOST, give_way="cores"), LIMITS) == ""


def test_only_what_was_handed_over_waits_for_others() -> None:
    assert not waits_for_others(run(Resources(cores=1), Resources(cores=2), queued=False).state, HOST)


def test_a_run_that_holds_nothing_waits_for_nobody() -> None:
    """It is in nobody's way."""
    told = begun()
    told.then(ev.Added(job=1, kind="f"), ev.Planned(count=1, refs=[1]), submitting(1))
    assert not waits_for_others(told.state, HOST)
