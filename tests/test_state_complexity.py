"""Ten times the jobs is ten times the work, not a hundred times.

Work is counted in lines of Python executed, so these tests do not depend on the machine or on what else it does. What
C code does inside one line (walking over a dict, copying a list) is not seen that way: the last tests measure CPU time
at sizes where anything quadratic would be off by an order of magnitude.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from support.desk import LIMITS, Desk
from support.lives import Lives
from support.work import lines_run
from support.workflows import blob

from orch.attempt import MAKER, NewJob, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.state.decide import attempt_key, decide
from orch.state.fold import fold
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.testing.batch import FakeBatch

MOST = 12
"""How many times the work ten times the jobs may be: ten, and something for what does not depend on the number."""


# Graphs: the needs of each of n jobs, and what stands in the workflow's value --------------------------------------


def apart(n: int) -> Plan:
    """No job needs another."""
    return graph([[] for _ in range(n)], list(range(n)))


def chain(n: int) -> Plan:
    """Each job needs the one before it."""
    return graph([[job - 1] if job else [] for job in range(n)], [n - 1])


def fan_in(n: int) -> Plan:
    """One job needs all others."""
    return graph([*([] for _ in range(n - 1)), list(range(n - 1))], [n - 1])


def fan_out(n: int) -> Plan:
    """All jobs need the first."""
    return graph([[], *([0] for _ in range(n - 1))], list(range(n)))


def tree(n: int) -> Plan:
    """Each job needs two that come after it."""
    return graph([[k for k in (2 * job + 1, 2 * job + 2) if k < n] for job in range(n)], [0])


def generations(n: int) -> Plan:
    """Each job is a child of the one before it."""
    return related([{"parents": [k - 1]} if k else {} for k in range(n)])


def sequels(n: int) -> Plan:
    """Each job is a follow-on of the one before it."""
    return related([{"follows": [k - 1]} if k else {} for k in range(n)])


def siblings(n: int) -> Plan:
    """All jobs are children of the first, but for one that follows them."""
    return related([{}, *({"parents": [0]} for _ in range(n - 2)), {"follows": [0]}])


def capsules(n: int) -> Plan:
    """Each second job has no body, and follows the one before it."""
    return related([{"form": "group" if k % 2 else "fork", "follows": [k - 1] if k else []} for k in range(n)])


def related(relations: list[dict[str, Any]]) -> Plan:
    return Plan(value=blob(0), jobs=[NewJob(kind="job", body=blob(0), **each) for each in relations])


def graph(needs: list[list[int]], refs: list[int]) -> Plan:
    return Plan(value=blob(0), refs=refs, jobs=[NewJob(kind="job", needs=n, body=blob(0)) for n in needs])


GRAPHS: dict[str, Callable[[int], Plan]] = {
    "apart": apart, "chain": chain, "fan-in": fan_in, "fan-out": fan_out, "tree": tree,
    "generations": generations, "sequels": sequels, "siblings": siblings, "capsules": capsules,
}  # fmt: skip


def growth(work: Callable[[int], Callable[[], object]], n: int = 100) -> float:
    """How many times the work is done for 10 n as for n."""
    return lines_run(work(10 * n)) / lines_run(work(n))


@pytest.mark.parametrize("name", GRAPHS)
def test_deciding_and_reacting(name: str) -> None:
    assert growth(lambda n: Desk(GRAPHS[name](n)).run) < MOST


@pytest.mark.parametrize("name", GRAPHS)
def test_folding(name: str) -> None:
    def work(n: int) -> Callable[[], object]:
        desk = Desk(GRAPHS[name](n))
        desk.run()
        return lambda: fold(desk.told.events)

    assert growth(work) < MOST


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - {"apart"}))
def test_skipping_and_restarting(name: str) -> None:
    def work(n: int) -> Callable[[], object]:
        desk = Desk(GRAPHS[name](n))

        def story() -> None:
            while decide(desk.state, LIMITS).end == "":
                for job in desk.submit():
                    desk.finished(job, reason=Reason.FAILED)
            desk.told.then(ev.Ended(outcome="failed"), ev.Restarted())

        return story

    assert growth(work) < MOST


def test_a_chain_of_tail_calls() -> None:
    def work(n: int) -> Callable[[], object]:
        desk = Desk(apart(1))

        def story() -> None:
            for job in range(1, n):
                desk.submit()
                desk.finished(job, refs=[0], alias=True, jobs=[NewJob(kind="job", body=blob(0))])
            desk.submit()
            desk.finished(n)

        return story

    assert growth(work) < MOST


def test_cancelling() -> None:
    def work(n: int) -> Callable[[], object]:
        desk = Desk(tree(n))
        return lambda: desk.told.then(ev.Requested(what="cancel"), ev.Restarted())

    assert growth(work) < MOST


@pytest.mark.parametrize("name", GRAPHS)
def test_whole_turns_of_the_leader(name: str) -> None:
    def work(n: int) -> Callable[[], object]:
        lives = Lives(GRAPHS[name](n), FakeBatch(lambda _: Outcome(key="", reason=Reason.FINISHED, value=blob(0))))
        lives.batch.on_submit = lambda _: None  # looking at the whole log would cost the whole log
        lives.batch.on_acknowledge = lambda _: None

        async def whole() -> None:
            await lives.live()
            assert lives.state.outcome == "succeeded"

        return lambda: anyio.run(whole)

    assert growth(work, 40) < MOST


def test_one_step_costs_the_same_among_many_jobs() -> None:
    def work(n: int) -> Callable[[], object]:
        desk = Desk(apart(n))
        jobs = desk.submit()

        def step() -> None:
            desk.finished(jobs[0])
            desk.submit()

        return step

    assert lines_run(work(2000)) == lines_run(work(20))


# Depth: nothing is recursive ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10_000, 100_000])
def test_a_deep_chain_made_by_one_attempt(n: int) -> None:
    desk = Desk(apart(1))
    desk.submit()
    jobs = [NewJob(kind="job", needs=[k - 1] if k else [], body=blob(0)) for k in range(n)]
    desk.finished(1, jobs=jobs, refs=[n - 1], alias=True)
    assert desk.state.counts[JobState.WAITING] == n - 1

    (first,) = desk.submit()
    desk.finished(first, reason=Reason.FAILED)
    assert desk.state.counts[JobState.SKIPPED] == n - 1
    assert decide(desk.state, LIMITS).end == "failed"

    desk.told.then(ev.Ended(outcome="failed"), ev.Restarted())
    assert desk.state.counts[JobState.WAITING] == n - 1
    desk.told.then(ev.Requested(what="cancel"), ev.Restarted())
    assert desk.state.counts[JobState.WAITING] == n - 1
    assert list(desk.state.ready) == [first]


@pytest.mark.parametrize("name", ["chain", "generations", "sequels", "capsules"])
def test_a_deep_chain_runs_to_its_end(name: str) -> None:
    desk = Desk(GRAPHS[name](10_000))
    desk.run()
    assert desk.state.outcome == "succeeded"


def test_a_deep_chain_of_tail_calls_is_done_at_once() -> None:
    desk = Desk(Plan(refs=[0], alias=True, jobs=[NewJob(kind="job", body=blob(0))]))
    n = 10_000
    for job in range(1, n):
        desk.submit()
        desk.finished(job, refs=[0], alias=True, jobs=[NewJob(kind="job", body=blob(0))])
    assert desk.state.counts[JobState.SUCCEEDED] == n - 1
    desk.submit()
    desk.finished(n)
    assert desk.state.counts[JobState.DONE] == n
    assert {row.value_seq for row in desk.state.jobs.values()} == {desk.state.workflow.value_seq} == {desk.state.seq}


def test_a_hundred_thousand_children_of_one_job() -> None:
    desk = Desk(apart(1))
    desk.submit()
    n = 100_000
    jobs = [NewJob(kind="job", parents=[MAKER], body=blob(0)) for _ in range(n)]
    desk.finished(1, jobs=[*jobs, NewJob(kind="job", follows=[MAKER], body=blob(0))])
    assert (len(desk.state.ready), desk.state.counts[JobState.WAITING]) == (n, 1)
    (first, *_) = desk.submit()
    desk.finished(first, reason=Reason.FAILED)
    assert desk.state.counts[JobState.SKIPPED] == 1
    desk.told.then(ev.Requested(what="cancel"), ev.Restarted())
    assert (desk.state.counts[JobState.SKIPPED], len(desk.state.ready) + len(desk.state.live)) == (0, n)


# Checkpoints -------------------------------------------------------------------------------------------------------


def below_a_checkpoint(n: int) -> Desk:
    """A checkpoint that has made a job, which has made the next one, and so on: n, each with a leaf that is ready."""
    desk = Desk(Plan(jobs=[NewJob(kind="job", checkpoint=True, retries=1, body=blob(0))]))
    for _ in range(n):
        job = max(desk.state.jobs)
        attempt = desk.state.jobs[job].attempt + 1
        desk.told.then(ev.Submitting(job=job, attempt=attempt, key=attempt_key("r", job, attempt)))
        desk.finished(job, jobs=[NewJob(kind="leaf", body=blob(0)), NewJob(kind="job", body=blob(0))])
    return desk


def test_dropping_what_is_below_a_checkpoint() -> None:
    def work(n: int) -> Callable[[], object]:
        desk = below_a_checkpoint(n)
        (leaf, *_) = desk.submit()
        desk.finished(leaf, reason=Reason.FAILED)
        return lambda: desk.told.then(ev.Rewound(job=1, failed=leaf))

    assert growth(work) < MOST


def test_failures_far_below_checkpoints_and_elsewhere() -> None:
    def work(n: int, *, tries: int) -> Callable[[], object]:
        desk = below_a_checkpoint(n)
        desk.state.jobs[1].charged = 1 - tries

        def fail() -> None:
            for _ in range(n // 8):
                for job in desk.submit():
                    desk.finished(job, reason=Reason.FAILED)
            desk.told.then(ev.Restarted())

        return fail

    assert growth(lambda n: work(n, tries=0)) < MOST
    assert growth(lambda n: work(n, tries=1)) < MOST


# What lines do not show --------------------------------------------------------------------------------------------


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def test_taking_from_many_ready_jobs() -> None:
    """The first of many ready jobs is found without walking over those that were taken before."""

    def drain(n: int) -> Callable[[], object]:
        state = State()
        rows = [Job(job, "job", "", 1) for job in range(n)]
        for row in rows:
            state.ready.add(row)

        def all_of_them() -> None:
            for _ in range(n):
                (first,) = state.ready.take(1, {})
                state.ready.discard(rows[first])

        return all_of_them

    small = min(cpu(drain(20_000)) for _ in range(3))
    large = min(cpu(drain(200_000)) for _ in range(3))
    assert large < 40 * small  # a walk would make it some hundred times
