"""Chains, in whole runs: what follows in the same place, what does not, and what becomes of the rest of a chain."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from flows import linked
from support.agents import Signal
from support.command import log_directory, running, until
from support.command import orch as command
from support.runs import Ran, run, select
from support.runs import until as until_event
from support.saboteur import agent_of

import orch
from orch.bus import events as ev
from orch.history import replay_state


class Gate:
    """What a link waits for in the middle of a chain."""

    def __init__(self, root: Path) -> None:
        self.said, self.held = Signal(root / "said"), Signal(root / "held")

    @property
    def names(self) -> tuple[str, str]:
        return self.said.path, self.held.path

    def open(self) -> None:
        """Let it go on."""
        Path(self.held.path).write_bytes(b".")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    found = Gate(tmp_path)
    yield found
    found.said.close()
    found.held.close()


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Where links write down that they ran."""
    found = tmp_path / "ran"
    found.mkdir()
    return found


def pids(where: Path) -> list[str]:
    """The process of each link, by number. Each ran once."""
    found = [path.read_text().split() for path in sorted(where.iterdir(), key=lambda path: int(path.name))]
    assert {len(each) for each in found} == {1}, found
    return [each[0] for each in found]


def after(ran: Ran) -> dict[str, list[str]]:
    """For each job, by name: in whose place its attempts were to run; empty: in no other's."""
    names = ran.names
    found: dict[str, list[str]] = {}
    for event in ran.all(ev.Submitting):
        found.setdefault(names[event.job], []).append(names.get(event.after, ""))
    return found


def each_after_the_one_before(count: int) -> dict[str, list[str]]:
    return {f"link {number}": [f"link {number - 1}" if number else ""] for number in range(count)}


# What is a chain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fork", "pool", "command", "file"])
async def test_a_chain_is_handed_over_at_once_and_each_link_is_a_job(tmp_path: Path, where: Path, form: str) -> None:
    ran = await run(tmp_path / "s", linked.line, where=str(where), form=form)
    assert after(ran) == each_after_the_one_before(5)
    kinds = [type(event) for event in ran.events if isinstance(event, ev.Submitting | ev.Running | ev.Succeeded)]
    assert kinds[:6] == [ev.Submitting] * 5 + [ev.Running]
    assert [event.job for event in ran.all(ev.Succeeded)] == [1, 2, 3, 4, 5]  # in order
    assert [event.job for event in ran.all(ev.Running)] == [1, 2, 3, 4, 5]
    assert all(event.usage.wall > 0 for event in ran.all(ev.Succeeded))
    assert len(set(pids(where))) == (1 if form == "pool" else 5)
    statuses = orch.replay(ran.store, ran.run).values()
    assert [status.attempt for status in statuses] == [1] * 5
    begun = [event.since for event in ran.all(ev.Running)]
    assert begun == sorted(begun)
    said = command("logs", ran.run, "4", "--store", ran.store, cwd=tmp_path)
    assert "this is link 3" in said.stdout + said.stderr
    assert "this is link 2" not in said.stdout + said.stderr


@pytest.mark.parametrize("form", ["fork", "pool", "command", "file"])
async def test_the_value_is_the_same_without_chaining(tmp_path: Path, where: Path, form: str) -> None:
    chained = await run(tmp_path / "s", linked.line, where=str(where), form=form)
    (tmp_path / "other").mkdir()
    single = await run(
        tmp_path / "s", linked.line, where=str(tmp_path / "other"), form=form, settings={"chaining": False}
    )
    assert after(single) == {f"link {number}": [""] for number in range(5)}
    if form == "file":
        assert (chained.value.digest, chained.value.size) == (single.value.digest, single.value.size)
    else:
        assert chained.value == single.value
    assert pids(tmp_path / "other") != []


async def test_children_are_chains_too(tmp_path: Path, where: Path) -> None:
    ran = await run(tmp_path / "s", linked.children, where=str(where))
    assert after(ran) == each_after_the_one_before(5)
    assert len(set(pids(where))) == 5


def test_the_command_has_an_option_for_it(tmp_path: Path, where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    own = ["--quiet", "--no-chaining", "--run-id", "r"]
    done = command("run", *own, "-m", "flows.linked_main", "--where", where, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "5\n")
    assert set(map(tuple, after(Ran(tmp_path / ".orch", "r")).values())) == {("",)}


@pytest.mark.parametrize(
    ("second", "chained"),
    [
        ({}, True),
        ({"cores": 0.1, "memory": "200 MiB", "disk": "1 KiB", "walltime": "1 s"}, True),  # it fits
        ({"retries": 3, "isolation": "pool"}, True),
        ({"cores": 0.3}, False),
        ({"memory": "301 MiB"}, False),
        ({"disk": "2 MiB"}, False),
        ({"walltime": "2 min"}, False),
        ({"accelerators": "fpga"}, False),
        ({"preemptible": True}, False),
        ({"local": True}, False),
        ({"checkpoint": True}, False),
        ({"cache": True}, False),
        ({"priority": 1}, False),
    ],
    ids=str,
)
async def test_only_what_fits_into_the_place_follows_there(
    tmp_path: Path, where: Path, monkeypatch: pytest.MonkeyPatch, second: dict[str, Any], chained: bool
) -> None:
    monkeypatch.setenv("ORCH_ACCELERATORS", "fpga=0")
    ran = await run(tmp_path / "s", linked.shapes, where=str(where), second=second)
    assert ran.value == 2
    assert after(ran)["second"][0] == ("first" if chained else "")


async def test_only_a_single_successor_with_a_single_predecessor_follows(tmp_path: Path, where: Path) -> None:
    ran = await run(tmp_path / "s", linked.fork_in_the_road, where=str(where))
    assert ran.value == 4
    assert set(map(tuple, after(ran).values())) == {("",)}


# What becomes of the rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["fork", "pool"])
async def test_a_failure_reruns_from_that_link(tmp_path: Path, where: Path, gate: Gate, isolation: str) -> None:
    gate.open()
    gate.open()
    names = gate.names
    ran = await run(tmp_path / "s", linked.held, where=str(where), gate=names, fails=1, isolation=isolation)
    assert ran.value == 5
    assert after(ran) == {
        "link 0": [""],
        "link 1": ["link 0"],
        "link 2": ["link 1", ""],
        "link 3": ["link 2", "link 2"],
        "link 4": ["link 3", "link 3"],
    }
    assert len(pids(where)) == 5
    assert [event.charged for event in ran.all(ev.Retrying)] == [True]  # nothing that has not begun costs a try
    assert [row.charged for row in replay_state(ran.store, ran.run).jobs.values()] == [0, 0, 1, 0, 0]


async def test_from_the_link_that_adds_jobs_the_chain_is_void(tmp_path: Path, where: Path) -> None:
    ran = await run(tmp_path / "s", linked.growing, where=str(where))
    assert ran.value == 5
    assert after(ran)["link 3"][0] == "link 2"
    assert len(after(ran)["link 3"]) == 2
    events = ran.events
    assert [event.attempt for event in select(events, ev.Succeeded, "link 3")] == [2]
    assert events.index(select(events, ev.Succeeded, "grown")[0]) < events.index(
        select(events, ev.Running, "link 3")[0]
    )
    assert len(pids(where)) == 5


@pytest.mark.parametrize("what", ["cancel", "stop"])
async def test_ended_in_the_middle(tmp_path: Path, where: Path, gate: Gate, what: str) -> None:
    store = tmp_path / "s"
    async with orch.Orchestrator(store) as orchestrator:
        handle = await orchestrator.start(linked.held, where=str(where), gate=gate.names)
        await gate.said.wait()
        await until_event(handle, lambda event: isinstance(event, ev.Running) and event.job == 3)
        await (handle.cancel() if what == "cancel" else handle.stop())
        states = [job.state for job in handle.jobs()]
        assert states[:2] == ["done", "done"]
        assert set(states[2:]) == ({"cancelled"} if what == "cancel" else {"ready", "waiting"})
        again = await orchestrator.resume(handle.id)
        gate.open()
        assert await again.result() == 5
    assert len(pids(where)) == 5


@pytest.mark.parametrize("who", ["leader", "agent", "both"])
async def test_killed_in_the_middle_nothing_runs_twice(
    tmp_path: Path, where: Path, gate: Gate, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    store = tmp_path / ".orch"
    words = ["--where", str(where), "--said", gate.said.path, "--held", gate.held.path]
    out = ""
    with running("run", "--quiet", "--run-id", "r", "-m", "flows.linked_main", *words, cwd=tmp_path) as process:
        await gate.said.wait()
        await until(log_directory(store, "r"), lambda event: isinstance(event, ev.Running) and event.job == 3)
        if who != "agent":
            process.kill()
            process.wait()
        if who != "leader":
            os.kill(agent_of(str(store)), signal.SIGKILL)
        if who == "agent":
            await gate.said.wait()  # it runs again
            gate.open()
            out, _ = await anyio.to_thread.run_sync(process.communicate)
    if who != "agent":
        with running("replay", "r", "--restart", "--quiet", cwd=tmp_path) as following:
            if who == "both":
                await gate.said.wait()
            gate.open()
            out, _ = await anyio.to_thread.run_sync(following.communicate)
    assert out == "5\n"
    assert len(pids(where)) == 5
    ran = Ran(store, "r")
    assert [event.job for event in ran.all(ev.Succeeded)] == [1, 2, 3, 4, 5]
    lost = [(ran.names[event.job], event.reason, event.charged) for event in ran.all(ev.Retrying)]
    assert lost == ([] if who == "leader" else [("link 2", "LOST", False)])


async def test_very_long_chains_are_handed_over_in_parts(tmp_path: Path, where: Path) -> None:
    ran = await run(tmp_path / "s", linked.line, where=str(where), form="pool", count=200)
    assert ran.value == 200
    parts = [event.after == 0 for event in ran.all(ev.Submitting)]
    assert 1 < sum(parts) < 10
    assert all(len(list(group)) < 100 for one, group in itertools.groupby(parts) if not one)
    assert len(pids(where)) == 200
