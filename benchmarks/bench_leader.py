"""The leader alone: CPU time a job from the durable plan to the end of the run, with an adapter that does nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
from report import Row, main, scratch

from orch.adapters.contract import Capacity, Finished, RunInfo, Started
from orch.adapters.null import NullAdapter, NullSession, succeed
from orch.api import Orchestrator
from orch.attempt import Attempt
from orch.bundle import Source
from orch.cli.common import RARELY

FLOW = Path(__file__).parent / "flow_noop.py"
JOBS = 10_000
AT_ONCE = 10_000


class Crowd(NullSession):
    """So many attempts run at once: the oldest end as others come, and the last when none comes any more."""

    def __init__(self) -> None:
        super().__init__(succeed, Capacity(cores=AT_ONCE, memory=1 << 40, disk=1 << 40, ahead=0))
        self.running: deque[Attempt] = deque()
        self.most = 0

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Have them run."""
        self.running += attempts
        self.most = max(self.most, len(self.running))
        self._tell([Started(attempt.key) for attempt in attempts])
        asyncio.get_running_loop().call_soon(self._end, 64)

    def _end(self, many: int) -> None:
        """End the oldest, and then others: the leader has a turn in between."""
        for _ in range(min(many, len(self.running))):
            attempt = self.running.popleft()
            self._tell([Finished(attempt.key, succeed(attempt))])
        if self.running:
            asyncio.get_running_loop().call_later(0.001, self._end, many)


class CrowdAdapter(NullAdapter):
    """Gives one session."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Crowd()

    async def open(self, info: RunInfo) -> NullSession:
        """That one."""
        return self.session


async def _run(store: Path, jobs: int, adapter: NullAdapter) -> tuple[float, float]:
    """CPU and wall time, in seconds, between the commit of the plan and the end of the run."""
    gc.set_threshold(*RARELY)  # as orch run does
    async with Orchestrator(store, adapter) as orchestrator:
        run = await orchestrator.start(Source.file(FLOW), argv=["--count", str(jobs)])
        cpu, wall = time.process_time(), time.perf_counter()
        await run.wait()
        run.check_outcome()
        return time.process_time() - cpu, time.perf_counter() - wall


def measure() -> Iterator[Row]:
    """CPU a job and jobs/s through the whole life of a job, everything durable."""
    with scratch() as place:
        cpu, wall = anyio.run(_run, place / "s", JOBS, NullAdapter())
        crowd = CrowdAdapter()
        crowded, _ = anyio.run(_run, place / "s", 2 * AT_ONCE, crowd)
    yield Row("leader alone, CPU a job", cpu / JOBS * 1e6, "µs", "<= 100", f"{JOBS:,} jobs")
    yield Row("… with very many running at once", crowded / (2 * AT_ONCE) * 1e6, "µs", "", f"{crowd.session.most:,}")
    yield Row("leader alone, jobs a second", JOBS / wall, "jobs/s", "", "durable")


if __name__ == "__main__":
    main(measure, __doc__)
