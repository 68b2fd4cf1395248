"""Whole runs through the public API."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import anyio
import pytest
from flows import dynamic, limits, parts, small

import orch
from orch.bus.events import Closed, Ended, Opened
from orch.state import table


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


async def test_a_recursion_that_adds_jobs(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(dynamic.main, n=7)
        value = await run.result()
        assert value["part"] == fibonacci(7) + 7
        assert value["whole"] == {"n": 7, "fib": 13, "list": [1, 7]}
        assert {job.state for job in run.jobs()} == {"done"}


async def test_replay_equals_what_the_leader_had(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(dynamic.main, n=6)
        await run.result()
        live = {job.id: job for job in run.jobs()}
    assert orch.replay(tmp_path / "s", run.id) == live


async def test_events_from_the_start_lose_nothing(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(dynamic.main, n=5)
        events = [event async for event in run.events()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], Opened)
    assert isinstance(events[-2], Ended)
    assert isinstance(events[-1], Closed)


async def test_twenty_runs_in_one_loop(tmp_path: Path) -> None:
    results: dict[int, int] = {}
    async with orch.Orchestrator(tmp_path / "s") as o, anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            run = await o.start(small.main, number=number)
            results[number] = await run.result()

        for number in range(20):
            tasks.start_soon(one, number)
    assert results == {number: 10 * number + 45 for number in range(20)}


async def test_waiting_for_some_jobs(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(small.main, number=1)
        await run.wait(jobs=[1], timeout=60)
        assert run.status(1).state == "done"
        assert await run.result() == 55


async def test_waiting_for_a_job_whose_row_is_packed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In runs of many jobs, the row of one that waits does not stay where it was."""
    monkeypatch.setattr(table, "HOT", 1)
    os.mkfifo(tmp_path / "pipe")
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(small.waits, path=str(tmp_path / "pipe"))
        total = next(job.id for job in run.jobs() if job.kind == "total")
        await run.wait(jobs=[total], timeout=60)
        await anyio.to_thread.run_sync((tmp_path / "pipe").write_text, "on")
        assert await run.result() == (45, "on")


@pytest.mark.parametrize("isolation", ["fork", "pool"])
async def test_limits_end_an_attempt_and_no_other(tmp_path: Path, isolation: str) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(limits.main, isolation=isolation)
        with pytest.raises(orch.RunFailed) as failure:
            await run.result()
        found = {job.kind: job for job in run.jobs() if job.kind != "after"}
    assert found["greedy"].reason == "MEMLIMIT"
    assert found["slow"].reason == "MAXJOBDURATION"
    assert found["fine"].state == "done"
    assert {job.state for job in run.jobs() if job.kind == "after"} == {"skipped"}
    assert {each.job.reason for each in failure.value.failures} == {"MEMLIMIT", "MAXJOBDURATION"}
    assert "MEMLIMIT" in str(failure.value)
    assert "orch logs" in str(failure.value)


async def test_failed_jobs_get_fresh_tries_when_the_run_is_carried_on(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(small.needs_file, path=str(flag))
        with pytest.raises(orch.RunFailed):
            await run.result()
        flag.touch()
        again = await o.resume(run.id)
        assert await again.result() == ["there", "beside"]
        assert {job.kind: job.attempt for job in again.jobs()} == {"must_exist": 2, "beside": 1, "join": 1}


async def test_a_part_that_the_result_misses_fails_the_run(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        assert await (await o.start(parts.main)).result() == [7, "beside"]
        run = await o.start(parts.main, key="absent")
        with pytest.raises(orch.RunFailed, match=r"result.*absent.*made") as failure:
            await run.result()
    assert [each.job.kind for each in failure.value.failures] == ["result"]
    assert run.state.outcome == "failed"


async def test_a_finished_run_gives_its_stored_result_again(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(small.main, number=2)
        assert await run.result() == 65
        again = await o.resume(run.id)
        assert await again.result() == 65


async def test_pause_starts_nothing_and_resume_does(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(small.main, number=3)
        await run.pause()
        await run.resume()
        assert await run.result() == 75


def test_blocking_run(tmp_path: Path) -> None:
    assert orch.run(small.main, number=4, store=tmp_path / "s") == 85


async def test_blocking_run_inside_a_loop(tmp_path: Path) -> None:
    assert orch.run(small.main, number=5, store=tmp_path / "s") == 95


async def test_blocking_run_in_a_thread(tmp_path: Path) -> None:
    call = functools.partial(orch.run, small.main, number=6, store=tmp_path / "s")
    assert await anyio.to_thread.run_sync(call) == 105


async def test_an_unknown_job_is_named(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as o:
        run = await o.start(small.main, number=1)
        with pytest.raises(orch.NoSuchJob, match="99"):
            run.status(99)
        await run.result()
