"""A call cache of the simulated world: it knows what earlier runs have computed, and looks at what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from support.workflows import blob

from orch.attempt import Value
from orch.bus.events import Call, JobId, Kept
from orch.leader.calls import Learned, Reuse
from simulator.names import ROOT

if TYPE_CHECKING:
    from simulator.process import Process
    from simulator.story import Story


class KnownCalls:
    """One leader's (`orch.leader.calls.Cache`)."""

    def __init__(self, story: Story, process: Process) -> None:
        self._story = story
        self._process = process

    async def find(self, wanted: Sequence[tuple[JobId, Call]]) -> dict[JobId, Reuse | None]:
        await asyncio.sleep(self._story.world.chance.uniform(0, 1))  # virtual seconds
        self._process.check()
        return {job: self._known(call) for job, call in wanted}

    def _known(self, call: Call) -> Reuse | None:
        rich = self._story.workload.rich
        if rich is None or call.digest not in rich.earlier:
            return None
        return Reuse(run="earlier", source=1, values=[Kept(value=blob(rich.earlier[call.digest]))])

    async def learn(self, done: Sequence[Learned]) -> None:
        self._process.check()
        rich = self._story.workload.rich
        for each in done:
            found = self._story.workload.read({k: Value(kept.value, kept.refs) for k, kept in enumerate(each.values)})
            if rich is None or rich.known[each.call.digest] != found:
                self._wrong(f"the cache is told that {each.call.digest} is {found}")

    async def remove(self, paths: Sequence[str]) -> None:
        self._process.check()
        for path in paths:
            if path not in self._story.oracle.relations.removed:
                self._wrong(f"{path} is deleted, and no durable event says so")
            elif Path(ROOT) / path in self._story.disk.names:
                self._story.disk.unlink(Path(ROOT) / path)

    async def close(self) -> None:
        """Nothing is open."""

    def _wrong(self, text: str) -> None:
        self._story.oracle.violations.append(text)
