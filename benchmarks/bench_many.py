"""A thousand small runs at once in one Orchestrator, beside one big run with as many jobs: starts, jobs/s, memory."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
from report import Row, main, scratch

from orch.adapters.contract import Capacity, RunInfo, Started
from orch.adapters.null import NullAdapter, NullSession, succeed
from orch.api import Orchestrator, Run
from orch.attempt import Attempt
from orch.bundle import Source

FLOW = Source.file(Path(__file__).parent / "flow_noop.py")
RUNS = int(os.environ.get("BENCH_RUNS", "1000"))
JOBS = 20
"""In each of the runs."""

ROUNDS = 3
"""Of which the median counts."""

SAMPLE = 100
"""Runs that are begun and led in a round; all of `RUNS` are begun once, for the memory that they take."""


class Gate(NullAdapter):
    """Jobs run, and none ends before the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.capacity = Capacity(cores=64, memory=1 << 40, disk=1 << 40, ahead=1024)
        self.is_open = False
        self.held: list[tuple[_Held, Sequence[Attempt]]] = []

    async def open(self, info: RunInfo) -> NullSession:
        """Connect a run."""
        return _Held(self)

    async def let_go(self) -> None:
        """Open it."""
        self.is_open = True
        for session, attempts in self.held:
            await session.submit(attempts)
        self.held.clear()


class _Held(NullSession):
    def __init__(self, gate: Gate) -> None:
        super().__init__(succeed, gate.capacity)
        self._gate = gate

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Finish them, or keep that for later."""
        if self._gate.is_open:
            await super().submit(attempts)
        else:
            self._tell([Started(attempt.key) for attempt in attempts])
            self._gate.held.append((self, attempts))


def resident() -> float:
    """This process's memory, in KB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


class Spent:
    """Seconds of CPU and of the clock since this was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu(self) -> float:
        """Of all threads of this process."""
        return time.process_time() - self._cpu

    @property
    def wall(self) -> float:
        """Of the clock."""
        return time.perf_counter() - self._wall


async def begin(orchestrator: Orchestrator, runs: int, jobs: int) -> list[Run]:
    """Begin runs all at once."""
    begun: list[Run] = []

    async def one() -> None:
        begun.append(await orchestrator.start(FLOW, argv=["--count", str(jobs)]))

    async with anyio.create_task_group() as tasks:
        for _ in range(runs):
            tasks.start_soon(one)
    return begun


async def busy(runs: list[Run], gate: Gate) -> None:
    """Until each has handed over what it can: nothing moves any more."""
    while len({id(session) for session, _ in gate.held}) < len(runs):  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(0.05)


async def lead(store: Path, runs: int, jobs: int, waves: int = 1) -> list[dict[str, float]]:
    """Begin runs, see what they take while all are live, let their jobs end; again in each wave."""
    gate = Gate()
    gate.is_open = True
    async with Orchestrator(store, gate) as orchestrator:
        await wave(orchestrator, gate, 1, JOBS)  # all is imported by then, and a planner is there
        return [await wave(orchestrator, gate, runs, jobs) for _ in range(waves)]


async def wave(orchestrator: Orchestrator, gate: Gate, runs: int, jobs: int) -> dict[str, float]:
    """CPU and time of the starts, and of all that comes then; what all take while they are live."""
    gate.is_open = False
    before = resident()
    spent = Spent()
    begun = await begin(orchestrator, runs, jobs)
    started = {"start cpu": spent.cpu, "start wall": spent.wall}
    await busy(begun, gate)
    live = resident() - before
    spent = Spent()
    await gate.let_go()
    for run in begun:
        await run.wait()
        run.check_outcome()
    return {**started, "lead cpu": spent.cpu, "lead wall": spent.wall, "live": live}


def measure() -> Iterator[Row]:
    """Begun and led in turn with one big run, whose start does not count: a median of rounds."""
    many: list[dict[str, float]] = []
    big: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        for found, runs, jobs in ((many, SAMPLE, JOBS), (big, 1, SAMPLE * JOBS)):
            with scratch() as place:
                found.extend(anyio.run(lead, place / "s", runs, jobs))
    with scratch() as place:
        first, second = anyio.run(lead, place / "s", RUNS, JOBS, 2)

    def of(found: list[dict[str, float]], what: str) -> float:
        return statistics.median(one[what] for one in found)

    jobs_of_many, jobs_of_big = (SAMPLE * JOBS / of(found, "lead wall") for found in (many, big))
    beyond = (of(many, "start cpu") + of(many, "lead cpu") - of(big, "lead cpu")) / SAMPLE
    yield Row("many runs: started a second", SAMPLE / of(many, "start wall"), "runs/s", "", f"{JOBS} jobs each")
    yield Row("many runs: CPU a run beyond its jobs", beyond * 1e3, "ms", "<= 3", "without the planner's")
    yield Row("many runs: jobs a second", jobs_of_many, "jobs/s", f">= {jobs_of_big / 2:.0f}", f"{SAMPLE} runs at once")
    yield Row("one big run: jobs a second", jobs_of_big, "jobs/s", "", f"{SAMPLE * JOBS:,} jobs")
    yield Row("memory of a live run", first["live"] / RUNS, "KB", "<= 300", f"{RUNS:,} at once, {JOBS} jobs each")
    yield Row("memory of a run after as many others", second["live"] / RUNS, "KB", "", "what they left is used again")


if __name__ == "__main__":
    main(measure, __doc__)
