"""Ten times the jobs cost ten times as much, from end to end: the leader with its log, replay, status.

What is counted is calls, of functions of Python and of C: the same on every machine and every day, but for how many
events are made durable at once. Work inside one call of C (a copy of a list, a walk over a dict) is not seen that way:
the last tests measure CPU time, at sizes where a walk at each step would make it many times more.
`test_state_complexity.py` does the same for many shapes of graphs, without log and adapter.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
from flows import grown
from support.command import log_directory
from support.desk import Desk
from support.runs import Ran
from support.workflows import blob

import orch
import orch.bus.reader
from orch.adapters.contract import Capacity
from orch.adapters.null import NullAdapter, succeed
from orch.attempt import Attempt, NewJob, Outcome, Plan
from orch.history import replay_state
from orch.inspection import Graph
from orch.state.fold import fold
from orch.state.status import explain, job_status
from orch.statistics import statistics

FEW, MANY = 300, 3000
MOST = 12
"""How many times the work ten times the jobs may be: ten, and something for what does not depend on the number."""

PLACES = Capacity(cores=8, memory=1 << 40, disk=1 << 40, ahead=8)
"""Few, so that the leader takes many steps."""


class Calls:
    """Counts the calls in the thread that it is switched on in."""

    def __init__(self) -> None:
        self.count = 0

    def on(self) -> None:
        sys.setprofile(self._called)

    def off(self) -> None:
        sys.setprofile(None)

    def _called(self, _frame: FrameType, event: str, _arg: Any) -> None:
        if event in {"call", "c_call"}:
            self.count += 1


def calls(work: Callable[[], object]) -> int:
    """How many calls there are in `work`."""
    counter = Calls()
    counter.on()
    try:
        work()
    finally:
        counter.off()
    return counter.count


def lead(store: Path, workflow: Any, adapter: NullAdapter, calls: Calls, **given: Any) -> Ran:
    """A whole run; what the leader does once it is planned is counted."""

    async def whole() -> Ran:
        async with orch.Orchestrator(store, adapter, durability="relaxed") as orchestrator:
            run = await orchestrator.start(workflow, **given)
            calls.on()
            try:
                await run.wait()
            finally:
                calls.off()
            run.check_outcome()
            return Ran(store, run.id)

    return anyio.run(whole)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Ran, int]]:
    """A run of few jobs, and one of many: where it is, and how many calls the leader made for it."""
    found = {}
    for jobs in (FEW, MANY):
        counter = Calls()
        ran = lead(tmp_path_factory.mktemp("store"), grown.apart, NullAdapter(capacity=PLACES), counter, jobs=jobs)
        found[jobs] = ran, counter.count
    return found


def growth(runs: dict[int, tuple[Ran, int]], work: Callable[[Path], Callable[[], object]]) -> float:
    """How many times the calls are for many jobs; `work` is given a log, and gives what is to be counted."""
    few, many = (calls(work(log_directory(ran.store, ran.run))) for ran, _ in (runs[FEW], runs[MANY]))
    return many / few


def test_the_leader(runs: dict[int, tuple[Ran, int]]) -> None:
    assert runs[MANY][1] / runs[FEW][1] < MOST


def test_a_chain(tmp_path: Path) -> None:
    counted = []
    for jobs in (FEW // 3, MANY // 3):
        counter = Calls()
        lead(tmp_path / str(jobs), grown.chain, NullAdapter(capacity=PLACES), counter, jobs=jobs)
        counted.append(counter.count)
    assert counted[1] / counted[0] < MOST


def test_a_step_among_jobs_that_wait(tmp_path: Path) -> None:
    """Of 100 jobs, the middle 60: whether ten jobs wait for the last one, or 10,000."""

    def counted(waiting: int) -> int:
        counter = Calls()

        def outcome(attempt: Attempt) -> Outcome:
            if attempt.job == 20:
                counter.count = 0
            if attempt.job == 80:
                found.append(counter.count)
            return succeed(attempt)

        found: list[int] = []
        adapter = NullAdapter(outcome, PLACES)
        lead(tmp_path / str(waiting), grown.gate, adapter, counter, jobs=100, waiting=waiting)
        return found[0]

    assert counted(10_000) < 1.2 * counted(10)


def test_replay(runs: dict[int, tuple[Ran, int]]) -> None:
    assert growth(runs, lambda log: lambda: replay_state(log)) < MOST


def test_status(runs: dict[int, tuple[Ran, int]]) -> None:
    assert growth(runs, lambda log: lambda: orch.replay(log)) < MOST


def test_the_graph(runs: dict[int, tuple[Ran, int]]) -> None:
    def work(log: Path) -> Callable[[], object]:
        state = replay_state(log)
        return lambda: Graph(state).order()

    assert growth(runs, work) < MOST


def test_statistics(runs: dict[int, tuple[Ran, int]]) -> None:
    def work(log: Path) -> Callable[[], object]:
        events = list(orch.bus.reader.read(log))
        return lambda: statistics(events)

    assert growth(runs, work) < MOST


def test_the_status_of_one_job_is_the_same_among_many(runs: dict[int, tuple[Ran, int]]) -> None:
    def work(log: Path) -> Callable[[], object]:
        state = replay_state(log)
        row = state.jobs[7]
        return lambda: (job_status(state, row), explain(state, row))

    assert growth(runs, work) == 1


# What calls do not show ----------------------------------------------------------------------------------------------


def cpu(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of CPU, the least of some rounds."""
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return min(spent)


def apart(jobs: int, waiting: int = 0) -> Desk:
    """So many jobs apart, and others that wait for all of them, before the first has run."""
    free = [NewJob(kind="job", body=blob(0)) for _ in range(jobs)]
    others = [NewJob(kind="waits", needs=[jobs - 1], body=blob(0)) for _ in range(waiting)]
    return Desk(Plan(value=blob(0), jobs=[*free, *others]))


def test_steps_among_a_hundred_thousand_jobs_that_wait() -> None:
    def steps(waiting: int) -> Callable[[], object]:
        desk = apart(1000, waiting)

        def some() -> None:
            for _ in range(40):
                for job in desk.submit():
                    desk.finished(job)

        return some

    assert cpu(steps(100_000)) < 3 * cpu(steps(100))  # a walk over all of them at each step: some hundred times


def test_all_steps_and_the_fold_of_twenty_thousand_jobs() -> None:
    few, many = apart(2000), apart(20_000)
    assert cpu(many.run, 1) < 2 * MOST * cpu(few.run, 1)
    assert cpu(lambda: fold(many.told.events)) < 2 * MOST * cpu(lambda: fold(few.told.events))
