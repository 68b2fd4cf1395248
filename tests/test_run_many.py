"""Many runs in one Orchestrator: none waits for a long turn of another, and what has ended is let go of."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio.lowlevel import checkpoint

from orch.adapters.contract import Capacity, RunInfo
from orch.adapters.null import NullAdapter, NullSession, succeed
from orch.api import Orchestrator, Run
from orch.attempt import Attempt
from orch.bundle import Source
from orch.leader.leader import SLICE

FLOW = """
import orch

@orch.job
def f(n): ...

@orch.workflow
def main(count: int = 1): return [f(n) for n in range(count)]
"""
MANY = 20 * SLICE


class Gate(NullAdapter):
    """Takes any number of jobs at once."""

    def __init__(self) -> None:
        super().__init__(capacity=Capacity(cores=1, memory=1 << 40, disk=1 << 40, ahead=2 * MANY))
        self.full = anyio.Event()
        self.submitted: list[int] = []

    async def open(self, info: RunInfo) -> NullSession:
        """Connect a run."""
        return _Session(self)


class _Session(NullSession):
    def __init__(self, gate: Gate) -> None:
        super().__init__(succeed, gate._capacity)
        self._gate = gate

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        self._gate.submitted.append(len(attempts))
        self._gate.full.set()
        await super().submit(attempts)


async def begin(orchestrator: Orchestrator, root: Path, count: int) -> Run:
    (root / "wf.py").write_text(FLOW)
    return await orchestrator.start(Source.file(root / "wf.py"), count=count)


async def test_a_run_that_hears_of_everything_at_once_lets_others_go_ahead(tmp_path: Path) -> None:
    gate = Gate()
    seen: set[int] = set()
    async with Orchestrator(tmp_path / "s", gate) as orchestrator:
        run = await begin(orchestrator, tmp_path, MANY)

        async def look() -> None:
            while not run.state.outcome:
                seen.add(run.state.seq)
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await gate.full.wait()
            await run.wait()
    assert gate.submitted == [MANY], "one turn has intended all"
    assert len(seen) > 2 * MANY // SLICE, "each slice of it, and of the one that heard of all ends, was seen"


async def test_what_has_ended_is_let_go_of(tmp_path: Path) -> None:
    async with Orchestrator(tmp_path / "s", NullAdapter()) as orchestrator:
        run = await begin(orchestrator, tmp_path, 3)
        await run.wait()
        left = weakref.ref(run)
        del run
        for _ in range(10):
            await checkpoint()
        gc.collect()
        assert left() is None
