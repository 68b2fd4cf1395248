"""What attempts have deferred is done on their host, however they end, and before anybody hears of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import helpers, jobs
from support.agents import Lab, Signal, View, process_gone
from support.helpers import lines

from orch.adapters.contract import Finished
from orch.agent import epilogues, paths
from orch.agent.forerunner import LOG
from orch.attempt import Reason

FORMS = ["fork", "pool"]
ALL = ["body", "one", "two", "three"]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    assert not left(found)
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


def left(lab: Lab) -> list[Path]:
    """Files of deferred functions that are there."""
    directory = Path(paths.deferred_directory(str(lab.store.root), paths.host_name()))
    return list(directory.iterdir()) if directory.exists() else []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("how", "reason"), [("return", Reason.FINISHED), ("raise", Reason.FAILED), ("die", Reason.FAILED)]
)
async def test_it_is_done_in_order_however_the_attempt_ends(
    view: View, tmp_path: Path, form: str, how: str, reason: Reason
) -> None:
    done = tmp_path / "done"
    outcome = await view.run_one(view.python(helpers.defers, str(done), "", how, form=form))
    assert lines(done) == ALL
    assert outcome.reason is reason
    assert b"RuntimeError: two failed" in outcome.stderr.data


@pytest.mark.parametrize("form", FORMS)
async def test_it_is_done_also_when_the_attempt_is_cancelled(view: View, tmp_path: Path, form: str) -> None:
    done, said = tmp_path / "done", Signal(tmp_path / "said")
    attempt = view.python(helpers.defers, str(done), said.path, "hang", form=form)
    await view.submit(attempt)
    await said.wait()
    await view.session.cancel([attempt.key])
    assert (await view.outcome(attempt)).reason is Reason.KILLED
    assert lines(done) == ALL
    said.close()


async def test_nobody_hears_of_the_end_and_nothing_takes_the_place_before(view: View, tmp_path: Path) -> None:
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    cores = view.session.capacity().cores
    attempt = view.python(helpers.defers_something_slow, said.path, held.path, str(tmp_path / "done"), cores=cores)
    other = view.shell("true", cores=cores)
    await view.submit(attempt, other)
    await said.wait()
    assert await view.session.describe(other.key)
    assert not any(isinstance(each, Finished) for each in view.updates)
    Path(held.path).write_bytes(b".")
    await view.outcome(other)
    assert [each.key for each in view.updates if isinstance(each, Finished)] == [attempt.key, other.key]
    assert lines(tmp_path / "done") == ["late"]
    said.close()
    held.close()


async def test_a_later_agent_does_what_a_dead_one_has_not_before_anything_starts(lab: Lab, tmp_path: Path) -> None:
    done, said = tmp_path / "done", Signal(tmp_path / "said")
    view = await lab.open()
    attempt = view.python(helpers.defers, str(done), said.path, "hang")
    await view.submit(attempt)
    await said.wait()
    os.kill(view.agent, signal.SIGKILL)
    assert (await view.outcome(attempt)).reason is Reason.LOST
    following = view.shell(f"echo next >> {done}")
    assert (await view.run_one(following)).reason is Reason.FINISHED
    assert lines(done) == [*ALL, "next"]
    assert "RuntimeError: two failed" in lab.agent_log()
    os.truncate(Path(paths.agent_directory(str(lab.store.root))) / LOG, 0)  # a trace that is none of the agent's
    said.close()


async def test_what_was_being_done_when_the_agent_died_is_done_again(lab: Lab, tmp_path: Path) -> None:
    said, held, done = Signal(tmp_path / "said"), Signal(tmp_path / "held"), tmp_path / "done"
    view = await lab.open()
    attempt = view.python(helpers.defers_something_slow, said.path, held.path, str(done))
    await view.submit(attempt)
    await said.wait()
    os.kill(view.agent, signal.SIGKILL)
    await said.wait()
    assert lines(done) == []
    Path(held.path).write_bytes(b".")
    assert (await view.run_one(view.python(jobs.add, 1, 2))).reason is Reason.FINISHED
    assert lines(done) == ["late"]
    said.close()
    held.close()


async def test_a_process_that_is_killed_from_outside_is_begun_again(lab: Lab, tmp_path: Path) -> None:
    said, held, done = Signal(tmp_path / "said"), Signal(tmp_path / "held"), tmp_path / "done"
    view = await lab.open()
    attempt = view.python(helpers.defers_something_slow, said.path, held.path, str(done))
    await view.submit(attempt)
    for _ in range(epilogues.MOST_TRIES - 1):
        await said.wait()
        (pid,) = [each for each in lab.marked() if _makes_deferred(each)]
        os.kill(pid, signal.SIGKILL)
        await process_gone(pid)
    await said.wait()
    Path(held.path).write_bytes(b".")
    assert view.value(await view.outcome(attempt)) == 7
    assert lines(done) == ["late"]
    said.close()
    held.close()


def _makes_deferred(pid: int) -> bool:
    return b"orch.work.deferred" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


async def test_in_the_copy_of_a_store_nothing_is_done_that_the_original_does(lab: Lab, tmp_path: Path) -> None:
    said, held, done = Signal(tmp_path / "said"), Signal(tmp_path / "held"), tmp_path / "done"
    view = await lab.open()
    attempt = view.python(helpers.defers_something_slow, said.path, held.path, str(done))
    await view.submit(attempt)
    await said.wait()
    (tmp_path / "other").mkdir()
    shutil.copytree(lab.store.root, tmp_path / "other" / "store", ignore=shutil.ignore_patterns("*.sock"))
    other = Lab(tmp_path / "other")
    assert left(other)
    following = await other.open()
    assert (await following.run_one(following.shell("true"))).reason is Reason.FINISHED
    assert not left(other)
    await other.close()
    Path(held.path).write_bytes(b".")
    await view.outcome(attempt)
    assert lines(done) == ["late"]
    said.close()
    held.close()
