"""Several runs on one host whose services leave no room for each other's jobs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from flows import crowded
from support.command import orch as command
from support.kills import end_agent
from support.watched import Place

import orch
from orch.bus.events import Event, Requested, Retrying, Submitted

PATIENCE = 60


class Crowd:
    """Runs on one host, each of which holds nearly half of it until it is over."""

    def __init__(self, place: Place, stack: contextlib.AsyncExitStack) -> None:
        self.place = place
        self.cores = float(len(os.sched_getaffinity(0)))
        self._stack = stack

    async def start(self, name: str, *, deadlock_wait: str = "0s", **more: Any) -> Any:
        """One more run, once its service is up and its gate is there, which is shut."""
        orchestrator = orch.Orchestrator(self.place.store, deadlock_wait=deadlock_wait)
        await self._stack.enter_async_context(orchestrator)
        said: dict[str, Any] = {
            "said": str(self.place.said),
            "pipe": str(self.place.pipe),
            "name": name,
            "cores": self.cores,
        }
        run = await orchestrator.start(crowded.main, run_id=name, **said, **more)
        await until(lambda: {f"+{name}", f"+gate of {name}"} <= self.said())
        return run

    async def why(self, run: Any, job: str) -> str:
        """What `orch why` says; the leaders go on meanwhile."""
        own = ["why", run.id, job, "--store", self.place.store]
        done = await anyio.to_thread.run_sync(functools.partial(command, *own, cwd=self.place.path))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def said(self) -> set[str]:
        return set(self.place.lines()) if self.place.said.exists() else set()


async def until(so: Callable[[], bool]) -> None:
    """The bodies have no other way to tell an outsider."""
    with anyio.fail_after(PATIENCE):
        while not so():
            await anyio.sleep(0.01)


async def heard(run: Any, wanted: Callable[[Event], bool]) -> Event:
    """The first such event of a run."""
    with anyio.fail_after(PATIENCE):
        async for event in run.events():
            if wanted(event):
                found: Event = event
                return found
    raise AssertionError("the run has ended")


async def its_user_waits(run: Any) -> str:
    """The number of the user, once the agent has it and has no room for it."""
    (job,) = (job.id for job in run.jobs() if job.name.startswith("user of "))
    await heard(run, lambda event: isinstance(event, Submitted) and str(event.job) == job)
    for _ in range(5):  # what was said before has had its effect by then
        said = await run.describe(job)
        assert said.startswith("waits for cores: ")
    return str(job)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    end_agent(made.store)
    made.close()


@contextlib.asynccontextmanager
async def crowded_host(place: Place) -> AsyncIterator[Crowd]:
    """All runs are led by this process, and its agent is theirs."""
    async with contextlib.AsyncExitStack() as stack:
        yield Crowd(place, stack)


async def test_the_younger_one_fails_and_the_older_one_goes_on(place: Place) -> None:
    async with crowded_host(place) as crowd:
        older = await crowd.start("older")
        younger = await crowd.start("younger")
        crowd.place.let_go()
        crowd.place.let_go()
        with anyio.fail_after(PATIENCE):
            with pytest.raises(orch.RunFailed) as raised:
                await younger.result()
            assert await older.result() == ["older"]
        text = str(raised.value)
        assert text.startswith(
            "run younger failed\n\nit was given up: only services run (younger [2]), and what needs them"
        )
        has, wants = f"{0.4 * crowd.cores:g} cores for services: older [2]", f"cores: {0.5 * crowd.cores:g} wanted"
        why = await crowd.why(younger, "3")
        for part in (f"user of younger [3]; {wants}", f"run older holds {has}. Those runs wait for room, too"):
            assert part in text
            assert part in why
        assert "+user of younger" not in crowd.said()


async def test_what_is_to_come_is_told_in_both(place: Place) -> None:
    """And with the younger one gone, for whatever reason, the older one goes on."""
    async with crowded_host(place) as crowd:
        older = await crowd.start("older", deadlock_wait="1h")
        younger = await crowd.start("younger", deadlock_wait="1h")
        crowd.place.let_go()
        crowd.place.let_go()
        for run, other in ((older, younger), (younger, older)):
            job = await its_user_waits(run)
            with anyio.fail_after(PATIENCE):
                while "given up" not in await run.describe(job):
                    await anyio.sleep(0.01)  # the other leader may have to see its own log first
            why = await crowd.why(run, job)
            held = f"run {other.id} holds {0.4 * crowd.cores:g} cores for services: {other.id} [2]; only services run"
            assert held in why
            assert "run younger is given up after its --deadlock-wait" in why
        await younger.cancel()
        with anyio.fail_after(PATIENCE):
            assert await older.result() == ["older"]


async def test_nobody_is_given_up_while_the_other_is_paused(place: Place) -> None:
    async with crowded_host(place) as crowd:
        older = await crowd.start("older")
        younger = await crowd.start("younger")
        await older.pause()
        await heard(older, lambda event: isinstance(event, Requested) and event.what == "pause")
        crowd.place.let_go()
        crowd.place.let_go()
        job = await its_user_waits(younger)
        said = await younger.describe(job)
        assert "run older holds" in said
        assert "given up" not in said
        assert not younger.state.abandoned
        await older.resume()
        with anyio.fail_after(PATIENCE):
            with pytest.raises(orch.RunFailed):
                await younger.result()
            assert await older.result() == ["older"]


async def test_nobody_is_given_up_while_a_job_of_the_other_backs_off(place: Place) -> None:
    async with crowded_host(place) as crowd:
        older = await crowd.start("older", later=True)
        younger = await crowd.start("younger")
        crowd.place.let_go()
        crowd.place.let_go()
        await heard(older, lambda event: isinstance(event, Retrying))
        for run in (older, younger):
            assert "given up" not in await run.describe(await its_user_waits(run))
        assert not younger.state.abandoned
        await older.cancel()
        with anyio.fail_after(PATIENCE):
            assert await younger.result() == ["younger"]
