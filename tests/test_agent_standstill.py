"""Runs whose services hold each other's jobs up: which of them has to give way, and when none has."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support import helpers
from support.admitting import GPUS, Desk
from support.agents import PATIENCE, Lab, View

from orch.adapters.contract import Queued
from orch.agent import admission
from orch.agent.model import Run
from orch.agent.standstill import Standstill
from orch.attempt import Attempt, Note, Reason
from orch.bus.events import Accelerator

# Which of them --------------------------------------------------------------------------------------------------------


def waiting(desk: Desk, services: dict[str, Any], jobs: dict[str, Any]) -> list[Run]:
    """Runs, the oldest first: what each has running, and what waits of each."""
    for run, wanted in services.items():
        desk.ask(run, **wanted)
    assert len(desk.let_in()) == len(services)
    for run, wanted in jobs.items():
        desk.ask(run, **wanted)
    assert desk.let_in() == []
    return [desk.runs[run] for run in jobs]


def test_no_run_is_looked_at_while_no_leader_says_that_its_own_stands_still() -> None:
    looked: list[Run] = []

    def runs() -> Iterator[Run]:
        looked.append(Run("a"))
        yield looked[0]

    Standstill(Desk().admission).look(runs())
    assert not looked


GPU = Accelerator("gpu")


@pytest.mark.parametrize(
    ("service", "job"),
    [
        ({"cores": 2}, {"cores": 2}),
        ({"cores": 0, "memory": 40}, {"cores": 0, "memory": 60}),
        ({"cores": 0, "disk": 1}, {"cores": 0, "disk": 99}),
        ({"cores": 0, "accelerators": (GPU,)}, {"cores": 0, "accelerators": (Accelerator("gpu", 2),)}),
    ],
)
def test_the_youngest_of_two_gives_way(service: dict[str, Any], job: dict[str, Any]) -> None:
    desk = Desk(cores=4, memory=100, disk=100, devices=GPUS)
    runs = waiting(desk, {"a": service, "b": service}, {"a": job, "b": job})
    assert desk.admission.to_give_way(runs) is runs[1]
    assert desk.admission.to_give_way(runs[::-1]) is runs[0]


def test_one_that_is_in_nobodys_way_is_not_given_up() -> None:
    desk = Desk(cores=4)
    services = {"a": {"cores": 2}, "b": {"cores": 2}, "c": {"cores": 0, "memory": 1}}
    runs = waiting(desk, services, {"a": {"cores": 2}, "b": {"cores": 2}, "c": {"cores": 1}})
    assert desk.admission.to_give_way(runs) is runs[1]


def test_no_more_have_to_go_than_must() -> None:
    desk = Desk(cores=3)
    runs = waiting(desk, {run: {"cores": 1} for run in "abc"}, {run: {"cores": 2} for run in "abc"})
    assert desk.admission.to_give_way(runs) is runs[1]
    desk.release(*desk.admission.held_by(runs[1]))
    assert desk.admission.to_give_way([runs[0], runs[2]]) is runs[2]


def test_others_are_expected_to_end() -> None:
    desk = Desk(cores=4)
    services = {"a": {"cores": 1}, "b": {"cores": 1}, "busy": {"cores": 2}}
    runs = waiting(desk, services, {"a": {"cores": 2}, "b": {"cores": 2}})
    assert desk.admission.to_give_way(runs) is None
    larger = Desk(cores=4)
    services["busy"] = {"cores": 1}
    runs = waiting(larger, services, {"a": {"cores": 3}, "b": {"cores": 3}})
    assert larger.admission.to_give_way(runs) is runs[1], "it would not help if that ended"


def test_no_place_is_held_for_what_waits_for_services_that_stay() -> None:
    desk = Desk(cores=4)
    desk.ask("a"), desk.ask("b")
    desk.let_in()
    large = desk.ask("a", 3)
    first = desk.ask("b", 1)
    assert desk.let_in() == [first]
    desk.clock += admission.PATIENCE + 1
    desk.release(first)
    second = desk.ask("b", 2)
    assert desk.let_in() == [], "a place is held for the large one"
    desk.admission.expect_no_end_of([desk.runs["a"], desk.runs["b"]])
    assert desk.let_in() == [second]
    desk.release(second, *desk.admission.held_by(desk.runs["b"]))
    desk.admission.expect_no_end_of([desk.runs["a"]])
    assert desk.let_in() == [large]


# Told by an agent -----------------------------------------------------------------------------------------------------


class Stuck:
    """A run with a service that is up, and a job that waits; and the leader of it, as far as it matters here."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.view: View
        self.service: Attempt
        self.job: Attempt

    async def serve(self) -> None:
        """Have the service."""
        self.view = await self.lab.open(self.name)
        cores = self.view.session.capacity().cores / 2
        said = str(self.lab.root / self.name)
        self.service = self.view.python(helpers.service, said, form="service", name="db", cores=cores)
        await self.view.submit(self.service)
        await self.view.until(lambda update: isinstance(update, Note) and update.kind == "up")

    async def want(self) -> None:
        """Have the job."""
        self.job = self.view.shell("true", cores=self.view.session.capacity().cores / 2)
        await self.view.submit(self.job)
        assert isinstance(await self.view.standing(self.job), Queued)
        self.wait()

    def wait(self, *, waits: bool = True) -> None:
        """Say that it stands still, or does not any more."""
        self.view.session.stand_still(waits=waits)

    @property
    def gives_way(self) -> str:
        return self.view.session.capacity().give_way

    async def until(self, *, gives_way: bool) -> None:
        """Wait until it is told so. What is heard meanwhile changes nothing."""
        with anyio.fail_after(PATIENCE):
            while bool(self.gives_way) != gives_way:
                self.view.updates += await anext(self.view._stream)
                self.wait()

    async def why(self) -> str:
        """What the agent says of its job; all that it was told before has had its effect by then."""
        await self.view.session.describe(self.job.key)
        return await self.view.session.describe(self.job.key)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def stuck(lab: Lab) -> tuple[Stuck, Stuck]:
    """Two runs that wait for each other; the second one knows it."""
    older, younger = Stuck(lab, "older"), Stuck(lab, "younger")
    for each in (older, younger):
        await each.serve()
    for each in (younger, older):
        await each.want()
    await younger.until(gives_way=True)
    return older, younger


async def test_one_of_two_is_told_and_all_is_said(stuck: tuple[Stuck, Stuck]) -> None:
    older, younger = stuck
    cores = younger.view.session.capacity().cores
    said = f"cores: {cores / 2:g} wanted, 0 of {cores:g} free; run older holds {cores / 2:g} cores for services: db [1]"
    assert younger.gives_way == said
    ends = (
        "; only services run, and none of these runs can go on beside the others: run younger is given up after its "
        "--deadlock-wait"
    )
    assert await younger.why() == f"waits for {said}{ends}"
    assert await older.why() == f"waits for {said.replace('older', 'younger')}{ends}"
    assert older.gives_way == ""


async def test_once_it_has_gone_the_other_goes_on(stuck: tuple[Stuck, Stuck]) -> None:
    older, younger = stuck
    younger.wait(waits=False)
    await younger.view.session.cancel([younger.job.key, younger.service.key])
    assert (await older.view.outcome(older.job)).reason is Reason.FINISHED
    await younger.until(gives_way=False)


async def test_nobody_gives_way_while_the_other_may_move(stuck: tuple[Stuck, Stuck]) -> None:
    older, younger = stuck
    older.wait(waits=False)
    await older.why()
    await younger.until(gives_way=False)
    assert "given up" not in await younger.why()
    older.wait()
    await younger.until(gives_way=True)


async def test_what_a_leader_says_counts_until_it_hears_of_something_new(stuck: tuple[Stuck, Stuck]) -> None:
    """A further service comes up, which may change everything."""
    older, younger = stuck
    more = older.view.python(helpers.service, str(older.lab.root / "more"), form="service", cores=0)
    await older.view.submit(more)
    await older.view.until(lambda update: isinstance(update, Note) and update.key == more.key)
    await younger.until(gives_way=False)
    assert "given up" not in await younger.why()
    older.wait()
    await younger.until(gives_way=True)


async def test_with_other_limits_it_must_be_said_anew(stuck: tuple[Stuck, Stuck]) -> None:
    older, younger = stuck
    await older.view.session.limit(0, 0, 1 << 20)
    await younger.until(gives_way=False)
    with anyio.fail_after(PATIENCE):
        assert await anext(older.view._stream) == [], "its leader looks again"
    assert older.view.session.capacity().disk == 1 << 20
    older.wait()
    await younger.until(gives_way=True)


async def test_a_run_whose_leader_is_gone_may_move(stuck: tuple[Stuck, Stuck]) -> None:
    older, younger = stuck
    await older.view.close()
    await younger.until(gives_way=False)
    assert "given up" not in await younger.why()
    older.view = await older.lab.open("older", 2, find=False)
    await older.view.session.find([older.service.key, older.job.key])
    await older.view.standing(older.job)
    older.wait()
    await younger.until(gives_way=True)


async def test_the_next_agent_knows_of_nothing(stuck: tuple[Stuck, Stuck]) -> None:
    """All services are lost; the jobs have their room."""
    older, younger = stuck
    os.kill(younger.view.agent, signal.SIGKILL)
    assert (await younger.view.outcome(younger.service)).reason is Reason.LOST
    assert younger.gives_way == ""
    assert (await older.view.outcome(older.service)).reason is Reason.LOST
