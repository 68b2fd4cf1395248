"""Limits that change, ends that were ordered, and templates of one's own for those that may have killed theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support import jobs
from support.agents import Lab, Signal, View, parent

from orch.adapters.contract import Queued
from orch.attempt import Reason

FORMS = ["command", "fork", "pool"]
GIB = 1 << 30


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


async def test_limits_change_while_a_run_goes_on(view: View, tmp_path: Path) -> None:
    held = Signal(tmp_path / "held")
    await view.session.limit(1, 0, GIB)
    tasks = [view.shell(f"read x < {held.path}", cores=0.5, disk=GIB // 2) for _ in range(3)]
    await view.submit(*tasks)
    assert isinstance(await view.standing(tasks[2]), Queued)
    assert "disk: 512 MiB wanted, 0 B of 1 GiB free" in await view.session.describe(tasks[2].key)
    assert (view.session.capacity().cores, view.session.capacity().disk) == (1, GIB)
    await view.session.limit(2, 0, 2 * GIB)
    await view.started(tasks[2])
    Path(held.path).write_bytes(b"1\n2\n3\n")
    for each in tasks:
        assert (await view.outcome(each)).reason is Reason.FINISHED
    held.close()


async def test_a_limit_of_disk_holds_from_the_start(lab: Lab) -> None:
    view = await lab.open(disk=GIB)
    assert view.session.capacity().disk == GIB
    attempt = view.shell("true", disk=2 * GIB)
    await view.submit(attempt)
    assert isinstance(await view.standing(attempt), Queued)
    limits = "waits for the limits of its run to be raised (orch set): disk: wanted 2 GiB, available 1 GiB"
    assert await view.session.describe(attempt.key) == limits
    await view.session.limit(0, 0, 2 * GIB)
    assert (await view.outcome(attempt)).reason is Reason.FINISHED


async def test_what_waits_outlives_limits_that_are_lowered_below_it(view: View, tmp_path: Path) -> None:
    held = Signal(tmp_path / "held")
    await view.session.limit(2, 0, 0)
    first, second = (view.shell(f"read x < {held.path}", cores=each) for each in (1, 2))
    await view.submit(first, second)
    await view.started(first)
    await view.session.limit(1, 0, 0)
    assert isinstance(await view.standing(second), Queued)
    assert "cores: wanted 2, available 1" in await view.session.describe(second.key)
    Path(held.path).write_bytes(b"1\n")
    assert (await view.outcome(first)).reason is Reason.FINISHED
    assert isinstance(await view.standing(second), Queued)
    await view.session.limit(2, 0, 0)
    await view.started(second)
    Path(held.path).write_bytes(b"2\n")
    assert (await view.outcome(second)).reason is Reason.FINISHED
    held.close()


async def test_what_the_host_does_not_have_is_never_given(view: View) -> None:
    await view.session.limit(1, 0, 0)
    outcome = await view.run_one(view.shell("true", cores=4096))
    assert outcome.reason is Reason.ERROR
    assert "it asks for more than there is: cores: wanted 4096, available " in outcome.message
    assert not outcome.message.endswith("available 1")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("walltime", [0, 3600])
async def test_a_doomed_attempt_is_lost(view: View, form: str, walltime: float) -> None:
    attempt = view.shell("sleep 3600") if form == "command" else view.python(jobs.hang, form=form)
    resources = msgspec.structs.replace(attempt.resources, walltime=walltime)
    outcome = await view.run_one(msgspec.structs.replace(attempt, doom=0.05, resources=resources))
    assert outcome.reason is Reason.LOST
    assert outcome.message == "killed on purpose: --chaos"


@pytest.mark.parametrize("form", FORMS)
async def test_a_doomed_attempt_that_is_quicker_is_lost_all_the_same(view: View, form: str) -> None:
    attempt = view.shell("true") if form == "command" else view.python(jobs.add, 1, 2, form=form)
    outcome = await view.run_one(msgspec.structs.replace(attempt, doom=3600.0))
    assert (outcome.reason, outcome.message) == (Reason.LOST, "killed on purpose: --chaos")


async def test_a_wall_time_that_ends_before_the_doom_counts(view: View) -> None:
    attempt = view.shell("sleep 3600", walltime=0.05, doom=3600.0)
    assert (await view.run_one(attempt)).reason is Reason.MAXJOBDURATION


@pytest.mark.parametrize("form", ["fork", "pool"])
async def test_whoever_killed_its_template_takes_nobody_along_the_next_time(
    view: View, tmp_path: Path, form: str
) -> None:
    said = Signal(tmp_path / "said")
    killer = view.python(jobs.kill_the_template, form=form, cores=0.1)
    innocent = view.python(jobs.hang, said.path, form=form, cores=0.1)
    await view.submit(innocent)
    await said.wait()
    await view.submit(killer)
    assert (await view.outcome(killer)).reason is Reason.LOST
    assert (await view.outcome(innocent)).reason is Reason.LOST

    again = [msgspec.structs.replace(each, key=f"run.{each.job}.2", attempt=2) for each in (innocent, killer)]
    other = view.python(jobs.hang, said.path, form=form, cores=0.1)
    await view.submit(again[0], other)
    await said.wait(2)
    assert parent((await view.started(again[0])).pid) != parent((await view.started(other)).pid)
    await view.submit(again[1])
    assert (await view.outcome(again[1])).reason is Reason.LOST
    assert not {again[0].key, other.key} & view.outcomes.keys()
    await view.session.cancel([again[0].key, other.key])
    for each in (again[0], other):
        assert (await view.outcome(each)).reason is Reason.KILLED
    said.close()


async def test_an_attempt_that_cannot_be_forked_is_an_error_of_ours(view: View) -> None:
    outcome = await view.run_one(view.python(jobs.pid, bundle="not-there"))
    assert outcome.reason is Reason.ERROR
    assert "the workflow's code cannot be read" in outcome.message
