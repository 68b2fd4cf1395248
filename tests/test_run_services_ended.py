"""Runs with services that are cancelled, stopped and carried on, or whose leader is killed: nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.command import log_directory, orch, running, status, tagged, until
from support.saboteur import agent_of
from support.watched import Place

from orch.bus.events import Event, Retrying, Running, Serving
from orch.bus.reader import read

FLOW = Path(__file__).parent / "flows" / "served.py"

STARTED = ["+lower", "+upper", "+user"]
STOPPED = ["-upper", "-lower"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("ORCH_TEST_MARK", str(tmp_path))  # tells this test's processes
    monkeypatch.setenv("ORCH_AGENT_LINGER", "0.2")
    made = Place(tmp_path)
    yield made
    made.close()


def words(place: Place) -> list[str]:
    """The command line that begins the run."""
    own = ["run", "--quiet", "--run-id", "r", "--store", str(place.store), str(FLOW)]
    return [*own, "--said", str(place.said), "--pipe", str(place.pipe)]


def user_runs(event: Event) -> bool:
    """Both services are up, and are used."""
    return isinstance(event, Running) and event.job == 3


async def until_said(place: Place, lines: list[str]) -> None:
    """The user's body says that it runs a little later than the log does."""
    with anyio.fail_after(30):
        while not place.said.exists() or place.lines() != lines:
            await anyio.sleep(0.01)  # the bodies have no other way to tell an outsider
    assert tagged(str(place.path))


async def until_gone(place: Place) -> None:
    """No process of the run is left, nor its agent."""
    with anyio.fail_after(30):
        while tagged(str(place.path)):
            await anyio.sleep(0.02)


def events(place: Place) -> list[Event]:
    """All of the run's."""
    return list(read(log_directory(place.store, "r")))


@pytest.mark.parametrize("how", ["cancel", "stop", "ctrl-c", "cancel without a leader", "stop without a leader"])
async def test_services_stop_children_first_after_their_users(place: Place, how: str) -> None:
    with running(*words(place), cwd=place.path) as process:
        await until(log_directory(place.store, "r"), user_runs)
        await until_said(place, STARTED)
        what = how.split(maxsplit=1)[0]
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            if how.endswith("without a leader"):
                process.kill()
                process.wait()
            done = orch(what, "r", "--store", place.store, cwd=place.path)
            assert done.returncode == 0, done.stderr
        process.communicate(timeout=30)
    if not how.endswith("without a leader"):
        assert process.returncode == (5 if what == "cancel" else 130)
    await until_gone(place)
    assert place.lines() == [*STARTED, *STOPPED]
    states = [job["state"] for job in status(place.store, "r")["jobs"].values()]
    assert states == (["cancelled"] * 3 if what == "cancel" else ["ready", "waiting", "waiting"])


async def test_a_run_that_was_stopped_is_carried_on_with_new_services(place: Place) -> None:
    with running(*words(place), cwd=place.path) as process:
        await until(log_directory(place.store, "r"), user_runs)
        await until_said(place, STARTED)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    place.let_go()
    done = orch("replay", "r", "--restart", "--quiet", "--store", place.store, cwd=place.path)
    assert done.returncode == 0, done.stderr
    assert place.lines() == [*STARTED, *STOPPED, *STARTED, "-user", *STOPPED]
    pids = {(event.job, event.attempt): event.pid for event in events(place) if isinstance(event, Running)}
    assert json.loads(done.stdout) == [pids[1, 2], pids[2, 2]]
    ended = [event for event in events(place) if isinstance(event, Retrying)]
    assert {(event.reason, event.charged) for event in ended} == {("KILLED", False)}
    await until_gone(place)


async def test_services_outlive_their_leader_and_are_adopted(place: Place) -> None:
    """Killed twice: while they are used, and just after."""
    again = ["replay", "r", "--restart", "--quiet", "--store", str(place.store)]
    with running(*words(place), cwd=place.path) as process:
        await until(log_directory(place.store, "r"), user_runs)
        await until_said(place, STARTED)
        process.kill()
        process.wait()
    with running(*again, cwd=place.path) as process:
        await until(log_directory(place.store, "r"), lambda event: event.epoch == 2)
        process.kill()
        process.wait()
    place.let_go()
    done = orch(*again, cwd=place.path)
    assert done.returncode == 0, done.stderr
    assert place.lines() == [*STARTED, "-user", *STOPPED]
    seen = events(place)
    assert [event.job for event in seen if isinstance(event, Serving)] == [1, 2]
    pids = {event.job: event.pid for event in seen if isinstance(event, Running)}
    assert json.loads(done.stdout) == [pids[1], pids[2]]
    assert not [event for event in seen if isinstance(event, Retrying)]
    await until_gone(place)


async def test_the_agent_and_the_leader_are_killed_together(place: Place) -> None:
    """What ran is lost, uncharged; the services start again, and nothing of the first ones is left."""
    with running(*words(place), cwd=place.path) as process:
        await until(log_directory(place.store, "r"), user_runs)
        await until_said(place, STARTED)
        os.kill(agent_of(str(place.store)), signal.SIGKILL)
        process.kill()
        process.wait()
    again = ["replay", "r", "--restart", "--quiet", "--store", str(place.store)]
    with running(*again, cwd=place.path) as process:
        await until(log_directory(place.store, "r"), lambda event: user_runs(event) and event.epoch == 2)
        place.let_go()  # not before: the first one may live a little longer than its agent
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    ended = {event.job: (event.reason, event.charged) for event in events(place) if isinstance(event, Retrying)}
    assert ended == dict.fromkeys((1, 2, 3), ("LOST", False))
    assert place.lines()[-6:] == [*STARTED, "-user", *STOPPED]
    await until_gone(place)


def test_the_command_limits_services_and_explains_a_deadlock(tmp_path: Path) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(
        """
import orch

class Big(orch.Service):
    def start(self):
        return 1

@orch.job(cores=0.5)
def use(credentials):
    return credentials

@orch.workflow
def main():
    return use(orch.context().add_service(Big(name="big", cores=0.5)))
"""
    )
    own = ["run", "--store", "s", "--max-cores", "0.5", "--deadlock-wait", "0.1s", "--max-services", "1"]
    done = orch(*own, flow, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "only services run (big [1]), and what needs them can never get room: use(…) [2]" in done.stderr
    assert "cores: wanted 0.5, available 0" in done.stderr
    assert "Traceback" not in done.stderr
    again = orch("replay", "--restart", "--store", "s", "--max-cores", "1", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "1\n"), again.stderr
