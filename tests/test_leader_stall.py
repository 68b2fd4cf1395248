"""When a leader says that its run waits for others, and when it gives the run up."""

from __future__ import annotations

import dataclasses
from typing import cast

import msgspec
import pytest
from support.folded import Folded, begun, submitting

from orch.adapters.contract import Capacity, Session
from orch.bus import events as ev
from orch.bus.events import Resources
from orch.leader.stall import Stall
from orch.state.decide import Decision, Limits

HOST = Capacity(cores=4, memory=1 << 30, disk=1 << 30)
LIMITS = Limits(slots=4, ahead=64)


@dataclasses.dataclass
class Listening:
    """A session that hears whether the run stands still."""

    room: Capacity = HOST
    waits: bool = False

    def capacity(self) -> Capacity:
        return self.room

    def stand_still(self, *, waits: bool) -> None:
        self.waits = waits


class Watched:
    """A run that has a service, and a user that waits for room; `now`: seconds."""

    def __init__(self) -> None:
        self.told: Folded = begun()
        self.told.then(
            ev.Added(job=1, kind="Db", serves=0, form="service", resources=Resources(cores=2)),
            ev.Added(job=2, kind="use", needs=[1], resources=Resources(cores=2)),
            ev.Planned(count=2, refs=[2]),
            *(submitting(1), ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1), submitting(2)),
        )
        self.session = Listening()
        self.now = 0.0
        self.stall = Stall(self.told.state, cast("Session", self.session), lambda: self.now)

    def look(self, decision: Decision | None = None) -> str:
        return self.stall.look(LIMITS, decision or Decision(), 10.0)

    def give_way(self, why: str) -> None:
        self.session.room = msgspec.structs.replace(HOST, give_way=why)


def test_it_is_given_up_once_it_was_to_give_way_for_long_enough() -> None:
    run = Watched()
    assert run.look() == ""
    assert run.session.waits
    assert run.stall.over(10.0) is None
    run.give_way("cores")
    run.now = 5.0
    assert run.look() == ""
    assert run.stall.over(10.0) == 15.0
    run.now = 15.0
    assert "; cores. " in run.look()
    assert run.session.waits, "the others are to know why"


def test_it_is_not_if_it_need_not_give_way_any_more() -> None:
    run = Watched()
    run.give_way("cores")
    assert run.look() == ""
    run.give_way("")
    run.now = 9.0
    assert run.look() == ""
    run.give_way("cores")
    run.now = 18.0
    assert run.look() == ""
    assert run.stall.over(10.0) == 28.0


@pytest.mark.parametrize("decision", [Decision(submit=[2]), Decision(cancel=["run.2.1"]), Decision(stop=["run.1.1"])])
def test_who_does_something_does_not_stand_still(decision: Decision) -> None:
    run = Watched()
    run.look()
    run.give_way("cores")
    assert run.look(decision) == ""
    assert not run.session.waits
    assert run.stall.over(10.0) is None


def test_who_is_to_end_does_not_either() -> None:
    run = Watched()
    run.look()
    run.told.then(ev.Requested(what="cancel"))
    assert run.look() == ""
    assert not run.session.waits
