"""Services through the agent: what they say, how they are told to stop, and that they may before they are killed."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import helpers
from support.agents import Lab, Signal, View, process_gone
from support.helpers import lines

from orch.adapters.contract import Started, Update
from orch.agent import execution, processes
from orch.attempt import Attempt, Note, Reason


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


def is_up(update: Update) -> bool:
    return isinstance(update, Note) and update.kind == "up"


async def up(view: View, attempt: Attempt) -> object:
    """The credentials of a service, once it is up."""
    await view.submit(attempt)
    note = await view.until(is_up)
    assert isinstance(note, Note)
    return pickle.loads(note.blob.data)


async def test_a_service_says_that_it_is_up_and_stops_when_it_is_told_to(view: View, tmp_path: Path) -> None:
    said = tmp_path / "said"
    attempt = view.python(helpers.service, str(said), form="service")
    assert await up(view, attempt) == {"address": "here"}
    await view.session.stop_services([attempt.key])
    await view.session.stop_services([attempt.key])
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.FINISHED, outcome
    assert lines(said) == ["start", "stop"]


async def test_one_that_is_told_to_stop_while_it_starts_does_so_then(view: View, tmp_path: Path) -> None:
    said, begun, held = tmp_path / "said", Signal(tmp_path / "begun"), Signal(tmp_path / "held")
    attempt = view.python(helpers.gated_service, str(said), begun.path, held.path, form="service")
    await view.submit(attempt)
    await begun.wait()
    await view.session.stop_services([attempt.key])
    Path(held.path).write_bytes(b".")
    assert (await view.outcome(attempt)).reason is Reason.FINISHED
    assert lines(said) == ["start", "stop"]
    assert not any(is_up(each) for each in view.updates)
    begun.close()
    held.close()


async def test_one_that_is_told_to_stop_before_its_turn_has_come_does_so_then(view: View, tmp_path: Path) -> None:
    said, held = tmp_path / "said", Signal(tmp_path / "held")
    cores = view.session.capacity().cores
    first = view.shell(f"read x < {held.path}", cores=cores)
    attempt = view.python(helpers.service, str(said), form="service", cores=cores)
    await view.submit(first, attempt)
    await view.started(first)
    await view.session.stop_services([attempt.key])
    Path(held.path).write_bytes(b"go\n")
    assert (await view.outcome(attempt)).reason is Reason.FINISHED
    assert lines(said) == ["start", "stop"]
    held.close()


async def test_a_service_that_is_cancelled_may_stop_first(view: View, tmp_path: Path) -> None:
    said = tmp_path / "said"
    attempt = view.python(helpers.service, str(said), form="service")
    await up(view, attempt)
    await view.session.cancel([attempt.key])
    assert (await view.outcome(attempt)).reason is Reason.KILLED
    assert lines(said) == ["start", "stop"]


async def test_one_that_does_not_stop_is_killed_with_all_that_it_has_started(lab: Lab, tmp_path: Path) -> None:
    said, stuck = tmp_path / "said", Signal(tmp_path / "said.stuck")
    view = await lab.open()
    attempt = view.python(helpers.service, str(said), True, form="service")
    await up(view, attempt)
    child = processes.children((await view.started(attempt)).pid)
    before = asyncio.get_running_loop().time()
    await view.session.cancel([attempt.key])
    await stuck.wait()
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.KILLED
    assert asyncio.get_running_loop().time() - before > execution.GRACE / 2
    assert child
    for pid in child:
        await process_gone(pid)
    stuck.close()


async def test_the_next_leader_gets_the_credentials_again(lab: Lab, tmp_path: Path) -> None:
    said = tmp_path / "said"
    first = await lab.open()
    attempt = first.python(helpers.service, str(said), form="service")
    credentials = await up(first, attempt)
    await first.close()
    second = await lab.open(epoch=2, find=False)
    await second.session.find([attempt.key])
    note = await second.until(is_up)
    assert isinstance(second.updates[0], Started)
    assert isinstance(note, Note)
    assert pickle.loads(note.blob.data) == credentials
    await second.session.stop_services([attempt.key])
    assert (await second.outcome(attempt)).reason is Reason.FINISHED


async def test_a_service_that_nobody_wants_any_more_may_stop(lab: Lab, tmp_path: Path) -> None:
    said = tmp_path / "said"
    first = await lab.open()
    attempt = first.python(helpers.service, str(said), form="service")
    await up(first, attempt)
    pid = (await first.started(attempt)).pid
    await first.close()
    await lab.open(epoch=2)
    await process_gone(pid)
    assert lines(said) == ["start", "stop"]
