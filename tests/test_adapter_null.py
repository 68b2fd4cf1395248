"""The adapter that does nothing, quickly."""

from __future__ import annotations

from orch.adapters.contract import Capacity, Finished, RunInfo, Started, Unknown
from orch.adapters.null import NullAdapter, succeed
from orch.attempt import Attempt
from orch.bus.events import EMPTY, Resources


def _attempt(number: int) -> Attempt:
    return Attempt(
        key=f"run.{number}.1", run="run", job=number, attempt=1, epoch=1, kind="k", name="", form="fork", body=EMPTY,
        resources=Resources(),
    )  # fmt: skip


async def test_everything_finishes_at_once_and_nothing_is_remembered() -> None:
    adapter = NullAdapter(capacity=Capacity(cores=2, memory=3, disk=4))
    session = await adapter.open(RunInfo(run="run", epoch=1, store="", environment={}))
    assert session.capacity().cores == 2
    updates = session.updates()
    await session.submit([_attempt(1), _attempt(2)])
    first, second = _attempt(1), _attempt(2)
    assert await anext(updates) == [
        Started(first.key),
        Finished(first.key, succeed(first)),
        Started(second.key),
        Finished(second.key, succeed(second)),
    ]
    await session.find([first.key])
    assert await anext(updates) == [Unknown(first.key)]
    await session.close()
    assert [batch async for batch in updates] == []
