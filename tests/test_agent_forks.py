"""Forks that a template makes ahead of their attempts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import jobs
from support.agents import PATIENCE, Lab, View, process_gone

from orch.agent import processes
from orch.attempt import Reason
from orch.work.template import FEW


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    lab = Lab(tmp_path)
    yield await lab.open()
    await lab.close()


async def waiting(view: View) -> int:
    """Run attempts until there is a fork that waits for the next one; its pid."""
    template = 0
    for _ in range(FEW):
        template = view.value(await view.run_one(view.python(os.getppid)))
    async with asyncio.timeout(PATIENCE):
        while not (found := processes.children(template)) or os.getsid(found[0]) != found[0]:
            await asyncio.sleep(0.01)
    return found[0]


async def test_the_next_attempt_runs_in_it(view: View) -> None:
    ready = await waiting(view)
    first = view.python(jobs.variables, ["ORCH_ATTEMPT", "TMPDIR"])
    mark, scratch = view.value(await view.run_one(first))
    assert mark == f"{view.lab.name}:{first.key}"
    assert Path(scratch).is_dir()
    second = view.python(jobs.pid)
    ran_in = view.value(await view.run_one(second))
    assert view.value(await view.run_one(view.python(jobs.pid))) != ran_in
    started = [(await view.started(each)).pid for each in (first, second)]
    assert started == [ready, ran_in]


async def test_it_prints_where_its_attempt_prints(view: View) -> None:
    await waiting(view)
    outcome = await view.run_one(view.python(jobs.shout, "ahead"))
    assert (outcome.stdout.data, outcome.stderr.data) == (b"ahead\n", b"AHEAD\n")


async def test_one_that_somebody_kills_is_not_missed(view: View) -> None:
    ready = await waiting(view)
    os.kill(ready, signal.SIGKILL)
    await process_gone(ready)
    outcome = await view.run_one(view.python(jobs.pid))
    assert view.value(outcome) != ready


async def test_an_attempt_in_it_can_be_ended(view: View) -> None:
    ready = await waiting(view)
    hanging = view.python(jobs.hang)
    await view.submit(hanging)
    assert (await view.started(hanging)).pid == ready
    await view.session.cancel([hanging.key])
    assert (await view.outcome(hanging)).reason is Reason.KILLED


async def test_many_at_once_have_one_each(view: View) -> None:
    ready = await waiting(view)
    attempts = [view.python(jobs.pid, cores=0.01) for _ in range(20)]
    await view.submit(*attempts)
    pids = [view.value(await view.outcome(each)) for each in attempts]
    assert len(set(pids)) == len(pids)
    assert pids[0] == ready


async def test_many_one_after_the_other_come_while_it_rehearses_still(view: View) -> None:
    attempts = [view.python(jobs.add, number, 1, cores=os.cpu_count()) for number in range(50)]
    await view.submit(*attempts)
    assert [view.value(await view.outcome(each)) for each in attempts] == list(range(1, 51))


async def test_those_with_files_are_not_the_only_ones_to_import_what_files_need(view: View) -> None:
    template = view.value(await view.run_one(view.python(os.getppid)))
    assert not view.value(await view.run_one(view.python(jobs.imported, "orch.store.file")))
    await view.run_one(view.python(jobs.write_file, "some text"))
    await view.run_one(view.python(jobs.pid))
    assert view.value(await view.run_one(view.python(jobs.imported, "orch.store.file")))
    assert view.value(await view.run_one(view.python(os.getppid))) == template
