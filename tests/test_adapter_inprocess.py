"""The adapter that runs jobs in the process of the leader."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.agents import Lab, View

from orch.adapters.contract import Finished, Queued, Started, Unknown, Update, fits
from orch.adapters.registry import make_adapter
from orch.attempt import Note, Reason
from orch.bus.events import Resources
from orch.work.context import context
from orch.work.services import serve


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    lab = Lab(tmp_path)
    lab.adapter = make_adapter("inprocess")  # type: ignore[assignment]
    found = await lab.open()
    yield found
    await found.session.close()


def print_and_add(a: int, b: int) -> int:
    print("in the job")  # noqa: T201 - what jobs do
    return a + b


def stay(path: str) -> None:
    Path(path).touch()


def never() -> None:
    raise AssertionError("it was to be killed first")


def defer_and_fail(path: str) -> None:
    context().defer(stay, path)
    raise RuntimeError


class Echo:
    """A service that gives its process and thread away."""

    def __init__(self, path: str) -> None:
        self.path = path

    def start(self) -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    def check(self) -> bool:
        return True

    def stop(self) -> None:
        Path(self.path).touch()


def is_up(update: Update) -> bool:
    return isinstance(update, Note) and update.kind == "up"


async def test_an_attempt(view: View, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = view.python(print_and_add, 1, 2)
    outcome = await view.run_one(attempt)
    assert view.value(outcome) == 3
    assert (outcome.stdout.data, outcome.stderr.size) == (b"in the job\n", 0)
    assert capsys.readouterr().out == "in the job\n"
    assert outcome.usage.wall > 0
    assert (await view.started(attempt)).pid == os.getpid()


async def test_much_output_is_bounded(view: View) -> None:
    outcome = await view.run_one(view.python(print, "x" * 100_000, max_log=1000))
    assert outcome.stdout.cut == 100_001 - 1000
    outcome = await view.run_one(view.command("head", "-c", "100000", "/dev/zero", max_log=1000))
    assert outcome.stdout.cut == 100_000 - 1000


async def test_what_waits_can_be_cancelled(view: View) -> None:
    first, second = view.python(print_and_add, 1, 2), view.python(never)
    await view.submit(first, second)
    await view.session.cancel([second.key])
    assert (await view.outcome(second)).reason is Reason.KILLED
    assert (await view.outcome(first)).reason is Reason.FINISHED
    await view.session.cancel(["unheard.1.1"])
    await view.until(lambda update: update == Unknown("unheard.1.1"))


async def test_where_attempts_stand(view: View) -> None:
    done, waiting, unwanted = view.python(print_and_add, 1, 2), view.python(print_and_add, 3, 4), view.python(never)
    await view.submit(done)
    await view.outcome(done, acknowledge=False)
    await view.submit(done, waiting, waiting, unwanted)  # again: harmless
    view.updates.clear()
    await view.session.find([done.key, waiting.key, "unheard.1.1"], ask=3)
    await view.until(lambda update: update == Unknown("unheard.1.1", 3))
    assert isinstance(await view.standing(done), Finished)
    assert isinstance(await view.standing(waiting), Queued)
    assert (await view.outcome(unwanted)).reason is Reason.KILLED
    assert view.value(await view.outcome(waiting)) == 7


async def test_the_next_waits_until_the_one_before_is_written_down(view: View, tmp_path: Path) -> None:
    written = tmp_path / "written"
    first, second = view.python(print_and_add, 1, 2), view.python(os.path.exists, str(written))
    await view.submit(first, second)
    await view.outcome(first, acknowledge=False)

    async def acknowledge() -> None:
        written.touch()
        await view.session.acknowledge([first.key])

    async with asyncio.TaskGroup() as tasks:
        later = asyncio.get_running_loop().call_later(0.05, lambda: tasks.create_task(acknowledge()))
        assert view.value(await view.outcome(second))
        later.cancel()


async def test_a_service_runs_beside(view: View, tmp_path: Path) -> None:
    service = view.python(serve, Echo(str(tmp_path / "stopped")), form="service", kwargs={"interval": 60.0})
    await view.submit(service)
    note = await view.until(is_up)
    assert isinstance(note, Note)
    process, thread = pickle.loads(note.blob.data)
    assert process == os.getpid()
    assert thread != threading.get_ident()
    assert view.value(await view.run_one(view.python(print_and_add, 1, 2))) == 3
    view.updates.clear()
    await view.session.find([service.key])
    assert isinstance(await view.standing(service), Started)
    await view.until(is_up)
    await view.session.stop_services([service.key, service.key, "unheard.1.1"])
    assert (await view.outcome(service)).reason is Reason.FINISHED
    assert (tmp_path / "stopped").exists()


async def test_services_are_stopped_by_a_cancel_and_at_the_end(view: View, tmp_path: Path) -> None:
    one, two = (
        view.python(serve, Echo(str(tmp_path / name)), form="service", kwargs={"interval": 60.0}) for name in "ab"
    )
    await view.submit(one, two)
    await view.until(lambda update: is_up(update) and update.key == two.key)
    await view.session.cancel([one.key])
    assert (await view.outcome(one)).reason is Reason.KILLED
    await view.session.close()
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


async def test_what_is_deferred_is_done_at_the_end(view: View, tmp_path: Path) -> None:
    outcome = await view.run_one(view.python(defer_and_fail, str(tmp_path / "done")))
    assert outcome.reason is Reason.FAILED
    assert (tmp_path / "done").exists(), outcome.stderr


async def test_chaos_is_a_loss(view: View) -> None:
    outcome = await view.run_one(view.python(never, doom=3.0))
    assert (outcome.reason, outcome.message) == (Reason.LOST, "killed on purpose: --chaos")


async def test_what_can_never_run_does_not_fit_here_either(view: View) -> None:
    await view.session.limit(1.0, 1 << 20, 0)
    assert "cores: wanted 2" in fits(Resources(cores=2.0), view.session.capacity())
    assert "memory" in fits(Resources(memory=1 << 30), view.session.capacity())
