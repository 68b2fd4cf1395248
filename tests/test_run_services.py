"""Services in whole runs: when they start and stop, who has them, and what becomes of all when one fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from flows import served, services
from support.kills import end_agent
from support.saboteur import agent_of
from support.watched import Place

import orch
from orch.bus.events import Added, Event, Failed, Retrying, Running, Serving


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


async def watched(run: Any, act: Callable[[str, Event], None]) -> list[Event]:
    """All events of a run; `act` hears of each as it comes, with its job's name."""
    names: dict[int, str] = {}
    seen = []
    with anyio.fail_after(60):
        async for event in run.events():
            seen.append(event)
            if isinstance(event, Added):
                names[event.job] = event.kind if "(" in event.name else event.name
            act(names.get(getattr(event, "job", 0), ""), event)
    return seen


# When they start and stop ---------------------------------------------------------------------------------------------


def test_services_start_in_tree_order_and_stop_in_the_reverse(place: Place) -> None:
    """After their job's body, before its children, until its follow-ons and all below is over."""
    assert place.run(services.tree) == {"child": ["a", "b", "c"], "c": "a", "host": "host"}
    inner = place.lines()[5:-3]
    assert place.lines()[:5] == ["+host", "-host", "+a", "+b", "+c"]
    assert place.lines()[-3:] == ["-c", "-b", "-a"]
    assert inner == ["+child", "-child", "+below", "-below", "+last", "-last"]
    assert set(place.states().values()) == {"done"}


def test_a_service_may_be_async_and_goes_on_while_it_waits(place: Place) -> None:
    assert place.run(services.asynchronous) == ["process"] * 3
    assert place.lines() == ["-looped"]


def test_services_of_the_workflow_of_a_job_and_inside_a_job(place: Place) -> None:
    assert place.run(services.everywhere) == {"inside": ["inner"], "below": "early"}
    lines = place.lines()
    assert lines[-1] == "-outer"
    for before, after in (
        ("+outer", "+host"),
        ("-early", "+beside"),
        ("-host", "+beside"),
        ("+beside", "+user"),
        ("-user", "-beside"),
        ("-made for it", "+inner"),
        ("+inner", "+child"),
        ("+inner", "+value"),
        ("-child", "-inner"),
        ("-value", "-inner"),
    ):
        assert lines.index(before) < lines.index(after), (before, after, lines)


def test_a_service_that_nobody_uses_starts_and_stops(place: Place) -> None:
    assert place.run(services.pointless) == "host"
    assert place.lines() == ["+host", "-host", "+lower", "+upper", "-upper", "-lower"]


@pytest.mark.parametrize(("limit", "preemptible"), [("max_services", False), ("max_preemptible_services", True)])
def test_so_many_services_at_once(place: Place, limit: str, preemptible: bool) -> None:
    found = place.run(services.one_after_the_other, {limit: 1}, preemptible=preemptible)
    assert found == [["a"], ["b"], ["c"]]
    up = [line for line in place.lines() if line[1:] in ("a", "b", "c")]
    assert [line[0] for line in up] == ["+", "-"] * 3


def test_the_limit_of_others_does_not_count(place: Place) -> None:
    """Were there one place for all three, they would be up one after the other, and never two."""
    place.run(services.one_after_the_other, {"max_preemptible_services": 1})
    assert set(place.states().values()) == {"done"}


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_they_stop_when_a_successor_fails(place: Place) -> None:
    error = place.fail(services.fails)
    assert [each.job.kind for each in error.failures] == ["fail"]
    assert place.lines()[-2:] == ["-upper", "-lower"]
    states = place.states()
    assert (states["use"], states["last"], states["lower"], states["upper"]) == ("done", "skipped", "done", "done")


async def test_a_run_that_is_mended_has_its_services_again(place: Place) -> None:
    """For what has to run again, and with new credentials; what is done is not touched."""
    place.fail(services.fails)
    before = len(place.lines())
    Path(f"{place.said}.mended").touch()
    async with orch.Orchestrator(place.store) as o:
        run = await o.resume()
        value = await run.result()
        assert value == [["lower", "upper"], "last", run.status(2).pid]
        tries = {job.kind if "(" in job.name else job.name: job.attempt for job in run.jobs()}
    assert tries == {"host": 1, "lower": 2, "upper": 2, "fail": 2, "use": 1, "last": 1}
    after = place.lines()[before:]
    assert (after[0], after[-2:]) == ("+lower", ["-upper", "-lower"])
    assert sorted(after[1:-2]) == ["+fail", "+last", "+upper", "-last"]


def test_check_that_says_false_ends_a_service_well(place: Place) -> None:
    """Its credentials stay what they are."""
    assert place.run(services.odd, how="ends") == ["db"]
    lines = place.lines()
    assert lines.index("checked db") + 1 == lines.index("-db") or "checked db" not in lines  # or it was not needed
    assert place.states()["db"] == "done"


async def test_check_that_says_false_while_it_is_used(place: Place) -> None:
    async with orch.Orchestrator(place.store) as o:
        run = await o.start(services.odd, said=str(place.said), how="ends", pipe=str(place.pipe))

        def act(name: str, event: Event) -> None:
            if name == "db" and type(event).__name__ == "Succeeded":
                place.let_go()

        events = await watched(run, act)
        pid = await run.result()
    assert [str(event.pid) for event in events if isinstance(event, Running)][1] == pid
    assert place.lines() == ["+host", "-host", "+db", "+user 1", "checked db", "-db"]


def test_start_that_raises_fails_it(place: Place) -> None:
    error = place.fail(services.odd, how="start")
    assert [(each.job.name, each.job.message) for each in error.failures] == [
        ("db", "ConnectionError: no luck with start of db")
    ]
    assert place.lines() == ["+host", "-host"]
    found = {job.kind: job for job in orch.replay(place.store).values()}
    assert (found["use"].state, found["use"].why) == ("skipped", "needs db [2], which failed")
    assert found["step"].state == "succeeded"


def test_a_service_has_tries(place: Place) -> None:
    assert place.run(services.odd, how="start once", retries=1) == ["db"]
    assert place.lines().count("+db") == 1


def test_stop_that_raises_fails_it_and_costs_a_try(place: Place) -> None:
    error = place.fail(services.odd, how="stop")
    assert [each.job.name for each in error.failures] == ["db"]
    assert place.states()["use"] == "done"
    assert place.run(services.odd, how="stop once", retries=1) == ["db"]


def test_a_service_is_checked_as_often_as_it_says(place: Place) -> None:
    """Its check would fail it."""
    assert place.run(services.odd, how="check", interval="1h") == ["db"]
    assert place.lines() == ["+host", "-host", "+db", "+user", "-user", "-db"]


async def failing_check(place: Place, retries: int) -> tuple[orch.Run, list[Event]]:
    """A run whose service fails while it is used, the first time."""
    async with orch.Orchestrator(place.store) as o:
        options: dict[str, Any] = {"how": "check once", "retries": retries, "pipe": str(place.pipe)}
        run = await o.start(services.odd, said=str(place.said), **options)

        def act(name: str, event: Event) -> None:
            if name == "wait_for" and isinstance(event, Running) and event.attempt == 2:
                place.let_go()

        return run, await watched(run, act)


async def test_check_that_raises_costs_a_try_and_users_get_new_credentials(place: Place) -> None:
    run, events = await failing_check(place, 1)
    ended = {event.job: event for event in events if isinstance(event, Retrying)}
    service, user = ended[2], ended[3]
    assert (service.reason, service.charged, service.message) == (
        "FAILED",
        True,
        "ConnectionError: no luck with check of db",
    )
    assert (user.reason, user.charged, user.message) == ("LOST", False, "db [2], which it used, is gone")
    assert await run.result() == str(run.status(2).pid)
    assert [line for line in place.lines() if line[1:] == "db"] == ["+db", "-db"] * 2


async def test_check_that_raises_without_tries_left(place: Place) -> None:
    run, events = await failing_check(place, 0)
    assert [(event.job, event.reason) for event in events if isinstance(event, Failed)] == [(2, "FAILED")]
    assert run.status(3).state == "skipped"
    assert place.lines()[-2:] == ["checked db", "-db"]


# One that is lost -----------------------------------------------------------------------------------------------------


async def lost(place: Place, lose: Callable[[int], None], **options: Any) -> tuple[list[int], list[Event]]:
    """A run whose lower service is lost when both are used; `lose` is called with its process."""
    pids: dict[tuple[str, int], int] = {}
    async with orch.Orchestrator(place.store) as o:
        run = await o.start(served.main, said=str(place.said), pipe=str(place.pipe), **options)

        def act(name: str, event: Event) -> None:
            if isinstance(event, Running):
                pids[name, event.attempt] = event.pid
                if (name, event.attempt) == ("user", 1):
                    lose(pids["lower", 1])
                elif name == "user":
                    place.let_go()

        events = await watched(run, act)
        value = await run.result()
    assert value == [pids["lower", 2], pids["upper", 2]]
    assert {pids["lower", 1], pids["upper", 1]}.isdisjoint(value)
    return value, events


def ends(events: list[Event]) -> dict[int, tuple[str, bool]]:
    """Reason of each attempt that did not succeed, and whether it cost a try, by job."""
    return {event.job: (event.reason, event.charged) for event in events if isinstance(event, Retrying)}


async def test_a_service_that_is_killed_starts_again_and_its_users_too(place: Place) -> None:
    """Killed by a signal: for a service as for any job, that costs a try. Not for those who used it."""
    _, events = await lost(place, lambda pid: os.kill(pid, signal.SIGKILL), retries=1)
    assert ends(events) == {1: ("FAILED", True), 2: ("LOST", False), 3: ("LOST", False)}
    assert [event.job for event in events if isinstance(event, Serving)] == [1, 2, 1, 2]
    first = place.lines()
    assert first[:3] == ["+lower", "+upper", "+user"]
    assert "-upper" in first[:6], "the one above was told to stop"
    assert first[-3:] == ["-user", "-upper", "-lower"]


async def test_a_service_whose_agent_died_starts_again_uncharged(place: Place) -> None:
    _, events = await lost(place, lambda _: os.kill(agent_of(str(place.store)), signal.SIGKILL))
    assert ends(events) == {1: ("LOST", False), 2: ("LOST", False), 3: ("LOST", False)}
    end_agent(place.store)


# No room --------------------------------------------------------------------------------------------------------------


async def test_a_deadlock_is_explained_and_the_run_fails(place: Place) -> None:
    """A service takes all there is, and then neither its user nor another service gets room. More helps."""
    async with orch.Orchestrator(place.store, cores=0.5, deadlock_wait="100ms") as o:
        run = await o.start(services.too_big, said=str(place.said))
        with pytest.raises(orch.RunFailed) as raised:
            await run.result()
        text = str(raised.value)
        assert text.startswith(f"run {run.id} failed\n\nit was given up: only services run (big [2])")
        # What else waits by then depends on who came first.
        for word in ("user [3]", "cores: wanted 0.5", "available 0"):
            assert word in text
        assert place.lines()[-2:] == ["+big", "-big"]
        again = await o.resume(run.id, cores=1)
        assert await again.result() == [["big"], "beside"]


def test_a_service_that_leaves_room_is_no_deadlock(place: Place) -> None:
    assert place.run(services.too_big, {"cores": 0.6, "deadlock_wait": 0}, cores=0.1) == [["big"], "beside"]
