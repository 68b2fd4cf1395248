"""Attempts that run in the place of another, one after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.agents import Lab, Signal, View
from support.chained import chain, fails, first, makes, pass_on, plus

from orch.adapters.contract import Finished, Queued, Started, Unknown, Update
from orch.attempt import Attempt, Reason, Value

FORMS = ["fork", "pool"]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


class Gate:
    """A first link that says that it runs, and goes on when it is let."""

    def __init__(self, root: Path) -> None:
        self.said, self.held = Signal(root / "said"), Signal(root / "held")

    @property
    def names(self) -> tuple[str, str]:
        return self.said.path, self.held.path

    def open(self) -> None:
        """Let it go on."""
        Path(self.held.path).write_bytes(b".")

    def close(self) -> None:
        self.said.close()
        self.held.close()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    found = Gate(tmp_path)
    yield found
    found.close()


def is_unknown(key: str, ask: int) -> Callable[[Update], bool]:
    """Tells the answer to that question."""
    return lambda update: update == Unknown(key, ask)


def order(view: View, wanted: type[Any]) -> list[str]:
    """The keys of the updates of one kind, as they came."""
    return [each.key for each in view.updates if isinstance(each, wanted)]


@pytest.mark.parametrize("form", FORMS)
async def test_links_run_one_after_the_other_with_the_value_of_the_one_before(
    view: View, gate: Gate, form: str
) -> None:
    links = chain(view, plus(plus(plus(first(*gate.names, 1), 2), 3), 4), form)
    await view.submit(*links)
    await gate.said.wait()
    assert await view.session.describe(links[1].key) == f"waits for {links[0].key}, in whose place it is to run"
    gate.open()
    outcomes = [await view.outcome(each) for each in links]
    assert [view.value(each) for each in outcomes] == [1, 3, 6, 10]
    assert order(view, Finished) == order(view, Started) == [each.key for each in links]
    pids = [each.stdout.data.split()[-1] for each in outcomes[1:]]
    assert len(set(pids)) == (1 if form == "pool" else 3)


async def test_a_program_is_a_link_too(view: View) -> None:
    before = view.shell("echo one")
    after = view.shell("echo two", after=before.key)
    await view.submit(before, after)
    assert (await view.outcome(after)).stdout.data == b"two\n"
    assert order(view, Finished) == [before.key, after.key]


@pytest.mark.parametrize("form", FORMS)
async def test_a_link_keeps_the_place_although_others_wait(view: View, gate: Gate, form: str) -> None:
    cores = view.session.capacity().cores
    links = chain(view, plus(plus(first(*gate.names, 1), 2), 3), form)
    links = [
        msgspec.structs.replace(each, resources=msgspec.structs.replace(each.resources, cores=cores)) for each in links
    ]
    await view.submit(*links)
    await gate.said.wait()
    other = view.shell("true", cores=cores)
    await view.submit(other)
    gate.open()
    await view.outcome(other)
    assert order(view, Started) == [*(each.key for each in links), other.key]


@pytest.mark.parametrize(("job", "reason"), [(fails, Reason.FAILED), (makes, Reason.FINISHED)])
async def test_what_is_chained_after_a_failure_or_after_new_jobs_is_forgotten(
    view: View, gate: Gate, job: Any, reason: Reason
) -> None:
    links = chain(view, plus(plus(job(*gate.names), 1), 2))
    await view.submit(*links)
    await gate.said.wait()
    gate.open()
    assert (await view.outcome(links[0], acknowledge=False)).reason is reason
    await view.session.find([each.key for each in links], 7)
    for each in links[1:]:
        await view.until(is_unknown(each.key, 7))
    assert order(view, Started) == [links[0].key]


async def test_a_link_that_waits_is_queued_and_can_be_cancelled(view: View, gate: Gate) -> None:
    links = chain(view, plus(plus(first(*gate.names, 1), 2), 3))
    await view.submit(*links)
    await gate.said.wait()
    assert isinstance(await view.standing(links[1]), Queued)
    await view.session.cancel([links[1].key])
    assert (await view.outcome(links[1])).reason is Reason.KILLED
    gate.open()
    assert view.value(await view.outcome(links[0], acknowledge=False)) == 1
    await view.session.find([links[0].key, links[2].key], 3)
    assert await view.until(lambda update: isinstance(update, Unknown)) == Unknown(links[2].key, 3)


async def test_the_next_leader_finds_a_link_that_waits(lab: Lab, view: View, gate: Gate) -> None:
    links = chain(view, plus(first(*gate.names, 1), 2))
    await view.submit(*links)
    await gate.said.wait()
    await view.close()
    following = await lab.open(epoch=2, find=False)
    await following.session.find([each.key for each in links])
    assert isinstance(await following.standing(links[0]), Started)
    assert isinstance(await following.standing(links[1]), Queued)
    gate.open()
    assert following.value(await following.outcome(links[1])) == 3


async def test_a_link_that_the_next_leader_does_not_name_is_forgotten(view: View, gate: Gate) -> None:
    links = chain(view, plus(first(*gate.names, 1), 2))
    await view.submit(*links)
    await gate.said.wait()
    await view.session.find([links[0].key])
    gate.open()
    await view.outcome(links[0])
    await view.session.find([links[1].key], 2)
    assert isinstance(await view.until(lambda update: isinstance(update, Unknown)), Unknown)


async def test_with_the_agent_a_chain_is_lost_from_the_link_that_ran(view: View, gate: Gate) -> None:
    links = chain(view, plus(plus(first(*gate.names, 1), 2), 3))
    await view.submit(*links)
    await gate.said.wait()
    os.kill(view.agent, signal.SIGKILL)
    assert (await view.outcome(links[0], acknowledge=False)).reason is Reason.LOST
    await view.session.find([each.key for each in links], 5)
    for each in links[1:]:
        await view.until(is_unknown(each.key, 5))


async def test_a_link_whose_predecessor_is_gone_is_an_attempt_like_any_other(view: View) -> None:
    before, after = chain(view, plus(plus(1, 2), 3))
    await view.submit(before)
    outcome = await view.outcome(before, acknowledge=False)
    await view.submit(after)  # the value is taken from what is still here
    assert view.value(await view.outcome(after)) == 6
    await view.session.acknowledge([before.key])
    again = _renamed(after, "run.2.2")
    await view.submit(again)
    assert (await view.outcome(again)).reason is Reason.LOST
    given = msgspec.structs.replace(_renamed(after, "run.2.3"), values={before.job: Value(outcome.value)})
    await view.submit(given)
    assert view.value(await view.outcome(given)) == 6


def _renamed(attempt: Attempt, key: str) -> Attempt:
    return msgspec.structs.replace(attempt, key=key)


async def test_a_leader_hears_of_what_came_before_a_link_first(
    lab: Lab, view: View, gate: Gate, tmp_path: Path
) -> None:
    """Also of what ended while nobody led, and although it asks for the link first."""
    held, said = Signal(tmp_path / "second held"), Signal(tmp_path / "second said")
    before, after = view.python(pass_on, *gate.names), view.python(pass_on, said.path, held.path)
    last = view.shell("true")
    links = [before, msgspec.structs.replace(after, after=before.key), msgspec.structs.replace(last, after=after.key)]
    await view.submit(*links)
    await gate.said.wait()
    await view.close()
    gate.open()
    await said.wait()
    following = await lab.open(epoch=2, find=False)
    Path(held.path).write_bytes(b".")
    await following.outcome(last, acknowledge=False)
    assert list(dict.fromkeys(order(following, Finished))) == [each.key for each in links]
    following.updates.clear()
    await following.session.find([each.key for each in reversed(links)])
    await following.outcome(last)
    assert order(following, Finished) == [each.key for each in links]
    held.close()
    said.close()
