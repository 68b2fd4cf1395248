"""The leader alone: CPU time a job from the durable plan to the end of the run, with an adapter that does nothing."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
from report import Row, main, scratch

from orch.adapters.null import NullAdapter
from orch.api import Orchestrator
from orch.bundle import Source
from orch.cli.common import RARELY

FLOW = Path(__file__).parent / "flow_noop.py"
JOBS = 10_000


async def _run(store: Path, jobs: int) -> tuple[float, float]:
    """CPU and wall time, in seconds, between the commit of the plan and the end of the run."""
    gc.set_threshold(*RARELY)  # as orch run does
    async with Orchestrator(store, NullAdapter()) as orchestrator:
        run = await orchestrator.start(Source.file(FLOW), argv=["--count", str(jobs)])
        cpu, wall = time.process_time(), time.perf_counter()
        await run.wait()
        run.check_outcome()
        return time.process_time() - cpu, time.perf_counter() - wall


def measure() -> Iterator[Row]:
    """CPU a job and jobs/s through the whole life of a job, everything durable."""
    with scratch() as place:
        cpu, wall = anyio.run(_run, place / "s", JOBS)
    yield Row("leader alone, CPU a job", cpu / JOBS * 1e6, "µs", "<= 150", f"{JOBS:,} jobs")
    yield Row("leader alone, jobs a second", JOBS / wall, "jobs/s", "", "durable")


if __name__ == "__main__":
    main(measure, __doc__)
