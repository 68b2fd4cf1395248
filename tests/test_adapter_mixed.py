"""Jobs elsewhere, and beside them those of this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from orch.adapters import registry
from orch.adapters.contract import Capacity, Finished, Queued, RunInfo, Said, Started, Unknown, Update
from orch.adapters.local import LocalAdapter
from orch.adapters.mixed import MixedAdapter
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.events import EMPTY, Resources
from orch.errors import AdapterError


class Side:
    """A session, and its adapter: remembers what it is asked for, and says what it is told to."""

    elsewhere = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[str, Any]] = []
        self.to_say: asyncio.Queue[list[Update] | Exception] = asyncio.Queue()
        self.opened = 0

    async def open(self, info: RunInfo) -> Side:
        self.opened += 1
        return self

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        self.asked.append(("submit", [each.key for each in attempts]))

    async def cancel(self, keys: Sequence[str]) -> None:
        self.asked.append(("cancel", list(keys)))

    async def stop_services(self, keys: Sequence[str]) -> None:
        self.asked.append(("stop", list(keys)))

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        self.asked.append(("limit", cores))

    async def acknowledge(self, keys: Sequence[str]) -> None:
        self.asked.append(("acknowledge", list(keys)))

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        self.asked.append(("find", list(keys)))

    async def updates(self) -> AsyncIterator[list[Update]]:
        while True:
            said = await self.to_say.get()
            if isinstance(said, Exception):
                raise said
            yield said

    def capacity(self) -> Capacity:
        return Capacity(cores=7, memory=1, disk=1)

    def stand_still(self, *, waits: bool) -> None:
        self.asked.append(("still", waits))

    async def describe(self, key: str) -> str:
        return f"{self.name} has {key}"

    async def output(self, key: str) -> tuple[bytes, bytes]:
        return self.name.encode(), b""

    async def close(self) -> None:
        self.asked.append(("close", None))


class Both:
    """The two sides of an open session, and what comes from it."""

    def __init__(self) -> None:
        self.there, self.here = Side("there"), Side("here")
        self.adapter = MixedAdapter(self.there, self.here)

    async def open(self, epoch: int = 1) -> Both:
        self.session = await self.adapter.open(RunInfo("run", epoch, "/store", {}))
        self.updates = self.session.updates()
        return self

    async def next(self) -> list[Update]:
        while True:
            found = await anext(self.updates)
            if found:
                return found


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    found = await Both().open()
    yield found
    await found.session.close()


def attempt(job: int, **changes: Any) -> Attempt:
    return Attempt(
        key=f"run.{job}.1",
        run="run",
        job=job,
        attempt=1,
        epoch=1,
        kind="f",
        name="",
        form="fork",
        body=EMPTY,
        resources=Resources(),
        **changes,
    )


async def test_jobs_go_where_they_belong(both: Both) -> None:
    await both.session.find([], 1)
    far, near, survey = attempt(1), attempt(2, local=True), attempt(3, survey=True)
    await both.session.submit([far])
    assert both.here.opened == 0  # nobody needed it
    await both.session.submit([near, far, survey])
    assert both.there.asked == [("find", []), ("submit", [far.key]), ("submit", [far.key])]
    assert both.here.asked == [("submit", [near.key, survey.key])]
    await both.session.cancel([far.key, near.key])
    await both.session.stop_services([near.key])
    await both.session.acknowledge([far.key, survey.key])
    assert both.there.asked[-2:] == [("cancel", [far.key]), ("acknowledge", [far.key])]
    assert both.here.asked[-3:] == [("cancel", [near.key]), ("stop", [near.key]), ("acknowledge", [survey.key])]
    assert await both.session.describe(near.key) == f"here has {near.key}"
    assert await both.session.output(far.key) == (b"there", b"")
    assert both.session.capacity().cores == 7


async def test_a_key_is_unknown_once_both_have_said_so(both: Both) -> None:
    await both.session.find(["a", "b", "c"], 5)
    assert both.here.asked == [("find", ["a", "b", "c"])]
    both.there.to_say.put_nowait([Unknown("a", 5), Queued("b", "x")])
    assert await both.next() == [Queued("b", "x")]
    both.here.to_say.put_nowait([Unknown("b", 5), Unknown("a", 5), Started("c")])
    assert await both.next() == [Unknown("a", 5), Started("c")]
    both.there.to_say.put_nowait([Unknown("c", 5), Said("busy")])
    assert await both.next() == [Said("busy")]
    await both.session.cancel(["b", "c"])
    assert both.there.asked[-1] == ("cancel", ["b"])
    assert both.here.asked[-1] == ("cancel", ["c"])


async def test_an_answer_to_an_older_question_does_not_count(both: Both) -> None:
    await both.session.find(["a"], 5)
    both.there.to_say.put_nowait([Unknown("a", 5)])
    await both.session.find(["a"], 6)
    both.here.to_say.put_nowait([Unknown("a", 5), Unknown("a", 6)])
    both.there.to_say.put_nowait([Unknown("a", 6)])
    assert await both.next() == [Unknown("a", 6)]


async def test_what_a_side_had_and_knows_no_more_is_unknown(both: Both) -> None:
    await both.session.submit([attempt(1), attempt(2, local=True)])
    both.here.to_say.put_nowait([Unknown(attempt(2).key), Unknown(attempt(1).key)])
    assert await both.next() == [Unknown(attempt(2).key)]


async def test_this_host_is_asked_after_a_restart_even_if_nothing_is_live() -> None:
    both = await Both().open(epoch=2)
    await both.session.find([], 1)
    assert both.here.asked == [("find", [])]
    await both.session.close()
    assert both.here.asked[-1] == both.there.asked[-1] == ("close", None)


async def test_trouble_of_either_side_is_told(both: Both) -> None:
    outcome = Outcome(key="a", reason=Reason.FINISHED)
    await both.session.submit([attempt(2, local=True)])
    both.there.to_say.put_nowait([Finished("a", outcome)])
    assert await both.next() == [Finished("a", outcome)]
    both.here.to_say.put_nowait(AdapterError("gone for good"))
    with pytest.raises(AdapterError, match="gone for good"):
        await both.next()


def test_the_registry_puts_this_host_beside_adapters_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._OURS, "far", "orch.adapters.null:NullAdapter")
    monkeypatch.setattr("orch.adapters.null.NullAdapter.elsewhere", True, raising=False)
    made = registry.make_adapter("far")
    assert isinstance(made, MixedAdapter)
    assert isinstance(made._here, LocalAdapter)
    assert made.name == "null"


async def test_an_agent_that_has_not_heard_the_question_has_to_be_asked(both: Both) -> None:
    """Its predecessor has died with it: the leader asks again, else it would wait for ever."""
    await both.session.find(["a"], 5)
    both.there.to_say.put_nowait([Unknown("a", 5)])
    both.here.to_say.put_nowait([Unknown("a")])
    assert await both.next() == [Unknown("a")]
    await both.session.find(["a"], 6)
    both.there.to_say.put_nowait([Unknown("a", 6)])
    both.here.to_say.put_nowait([Unknown("a", 6)])
    assert await both.next() == [Unknown("a", 6)]
