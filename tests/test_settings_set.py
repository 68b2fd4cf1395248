"""`orch set` and `Run.set`: limits that change while a run goes on, and what a restart makes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.command import log_directory, orch, running, status, until

import orch as api
from orch.api import Orchestrator
from orch.bus import events as ev
from orch.bus.reader import read
from orch.history import fold_quickly

FLOW = """
import os
import orch

@orch.job(cores=0.1)
def hold(number, pipe):
    with open(pipe, "rb") as file:
        file.read()
    return number

@orch.workflow
def main(pipe: str, jobs: int = 3):
    return sum_of([hold(number, pipe) for number in range(jobs)])

@orch.job
def sum_of(numbers):
    return sum(numbers)
"""


def begun(event: ev.Event) -> bool:
    return isinstance(event, ev.Running)


def adjusted(store: Path, run: str = "r") -> list[dict[str, Any]]:
    """What was changed, one event after the other."""
    return [event.settings for event in read(log_directory(store, run)) if isinstance(event, ev.Adjusted)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a workflow, and the pipe whose end its jobs wait for."""
    (tmp_path / "wf.py").write_text(FLOW)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


class Seen:
    """The log of a run, read on and on."""

    def __init__(self, place: Path) -> None:
        self.directory = log_directory(place / ".orch", "r")

    async def running(self, count: int) -> set[int]:
        """Wait until so many jobs have begun; which ones."""
        jobs: set[int] = set()

        def enough(event: ev.Event) -> bool:
            if isinstance(event, ev.Running):
                jobs.add(event.job)
            return len(jobs) >= count

        await until(self.directory, enough)
        return jobs


async def test_a_limit_is_lifted_while_the_run_goes_on(place: Path) -> None:
    with running("run", "--run-id", "r", "--max-jobs", "1", "wf.py", "--pipe", place / "pipe", cwd=place) as process:
        seen = Seen(place)
        await seen.running(1)
        assert len(status(place / ".orch", "r")["jobs"]) == 4
        assert sum(job["state"] == "running" for job in status(place / ".orch", "r")["jobs"].values()) == 1
        done = orch("set", "r", "--max-jobs", "unlimited", "--max-memory", "8GiB", cwd=place)
        assert (done.returncode, done.stderr.strip()) == (0, "run r has new limits")
        await seen.running(3)
        let_go = os.open(place / "pipe", os.O_WRONLY)
        os.close(let_go)
        assert await anyio.to_thread.run_sync(process.wait, 60) == 0
    assert adjusted(place / ".orch") == [{"max_jobs": 0, "memory": 8 << 30}]


async def test_without_a_leader_it_is_for_whoever_comes(place: Path) -> None:
    with running("run", "--run-id", "r", "wf.py", "--pipe", place / "pipe", "--jobs", "1", cwd=place):
        await Seen(place).running(1)
        assert orch("stop", "r", cwd=place).returncode == 0
    done = orch("set", "r", "--max-jobs", "1", "--max-cores", "0.5", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "run r has new limits" in done.stderr
    assert "nobody leads it: orch replay r --restart" in done.stderr
    assert status(place / ".orch", "r")["state"] == "stopped"
    assert adjusted(place / ".orch") == [{"max_jobs": 1, "cores": 0.5}]
    refused = orch("replay", "r", "--restart", cwd=place)
    assert refused.returncode == 2
    assert "job sum_of(…) [2] asks for more than can ever be given here" in refused.stderr
    with running("replay", "r", "--restart", "--max-cores", "2", cwd=place) as process:
        await until(log_directory(place / ".orch", "r"), lambda event: begun(event) and event.epoch > 3)
        os.close(os.open(place / "pipe", os.O_WRONLY))
        assert await anyio.to_thread.run_sync(process.wait, 60) == 0
    assert fold_quickly(log_directory(place / ".orch", "r")).adjusted == {"max_jobs": 1, "cores": 2.0}


def test_a_run_that_has_ended_has_no_limits(place: Path) -> None:
    (place / "wf.py").write_text("import orch\n@orch.workflow\ndef main():\n    return 1\n")
    assert orch("run", "--run-id", "r", "wf.py", cwd=place).returncode == 0
    done = orch("set", "r", "--max-jobs", "1", cwd=place)
    assert (done.returncode, done.stderr.strip()) == (0, "run r has ended already: succeeded")


async def test_through_the_api(tmp_path: Path) -> None:
    from flows import small

    async with Orchestrator(tmp_path / "s", max_jobs=1) as orchestrator:
        handle = await orchestrator.start(small.main)
        await handle.set(max_jobs="unlimited", retry_backoff="1s")
        with pytest.raises(api.errors.UserError, match="max_jobs: 'none' is not a whole number"):
            await handle.set(max_jobs="none")
        assert await handle.result() == 55
        run = handle.id
    assert adjusted(tmp_path / "s", run) in ([{"max_jobs": 0, "retry_backoff": 1.0}], [])


async def test_a_wish_that_makes_no_sense_does_no_harm(place: Path) -> None:
    from orch.leader.requests import SET, make_request

    with running("run", "--run-id", "r", "wf.py", "--pipe", place / "pipe", cwd=place) as process:
        await Seen(place).running(1)
        make_request(place / ".orch", "r", SET, 1, "mallory", {"retries": 5})
        await until(log_directory(place / ".orch", "r"), lambda event: isinstance(event, ev.Warned))
        await Seen(place).running(3)
        os.close(os.open(place / "pipe", os.O_WRONLY))
        assert await anyio.to_thread.run_sync(process.wait, 60) == 0
    assert adjusted(place / ".orch") == []
