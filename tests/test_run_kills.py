"""Real kills of real processes: nothing is lost, and no body runs twice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
import pytest
from support.command import log_directory, orch, running, status, until
from support.kills import NIGHTLY
from support.saboteur import agent_of

from orch.bus.events import Event, Retrying, Running, Succeeded
from orch.bus.reader import read

FLOWS = Path(__file__).parent / "flows"


def executions(where: Path) -> dict[int, int]:
    """How often each body ran to its end."""
    return {int(path.name): len(path.read_text().splitlines()) for path in where.iterdir()}


def start_args(place: Path, jobs: int, seconds: float, cores: float = 1) -> list[str]:
    """A run of `counted.py` in `place`; 100 of its jobs fit into a core."""
    (place / "counts").mkdir(parents=True)
    options = ["--where", str(place / "counts"), "--jobs", str(jobs), "--seconds", str(seconds)]
    own = ["--quiet", "--run-id", "r", "--cores", str(cores), "--store", str(place / "s")]
    return ["run", *own, str(FLOWS / "counted.py"), *options]


async def killed_once(place: Path, jobs: int, seconds: float, after: int) -> None:
    """Kill the leader after its `after`-th success; carry on; check."""
    store = place / "s"
    with running(*start_args(place, jobs, seconds), cwd=place) as first:
        await until(log_directory(store, "r"), nth_success(1, after), timeout=100)
        first.kill()
        first.wait()
    done = await anyio.to_thread.run_sync(lambda: orch("replay", "r", "--restart", "--store", store, cwd=place))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == sum(range(jobs))
    assert executions(place / "counts") == dict.fromkeys(range(jobs), 1)


@pytest.mark.parametrize("batch", range(5 if NIGHTLY else 1))
async def test_leader_killed_at_moments_of_a_run_of_300_jobs(tmp_path: Path, batch: int) -> None:
    """66 jobs are live at once. Every night: thirty moments."""
    async with anyio.create_task_group() as tasks:
        for moment in range(6):
            after = 1 + (batch + moment * 5) * 10
            tasks.start_soon(killed_once, tmp_path / str(moment), 300, 4.0, after)


def nth_success(epoch: int, wanted: int) -> Callable[[Event], bool]:
    """True from the `wanted`-th success of an epoch on."""
    count = 0

    def reached(event: Event) -> bool:
        nonlocal count
        count += isinstance(event, Succeeded) and event.epoch == epoch
        return count >= wanted

    return reached


def numbers(events: Iterable[Succeeded | Retrying]) -> set[int]:
    """Which `work` the jobs are, for its number is not the job's: after each twenty comes their total."""
    return {event.job - 1 - event.job // 21 for event in events if event.job % 21}


async def test_leader_and_agent_killed_together(tmp_path: Path) -> None:
    """What had finished is not run again; what had not, is lost, and runs again."""
    store = tmp_path / "s"
    with running(*start_args(tmp_path, 300, 0.3, cores=0.2), cwd=tmp_path) as process:
        seen = await until(log_directory(store, "r"), nth_success(1, 60))
        os.kill(agent_of(str(store)), signal.SIGKILL)
        process.kill()
        process.wait()
    finished = numbers(event for event in seen if isinstance(event, Succeeded))
    done = orch("replay", "r", "--restart", "--quiet", "--store", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == sum(range(300))
    after = executions(tmp_path / "counts")
    assert after.keys() == set(range(300))
    assert {after[job] for job in finished} == {1}
    events = list(read(log_directory(store, "r")))
    lost = [event for event in events if isinstance(event, Retrying)]
    assert lost
    assert {(event.reason, event.charged) for event in lost} == {("LOST", False)}
    again = numbers(lost)
    assert {after[job] for job in set(range(300)) - again} == {1}, "only what was lost ran again"


async def test_agent_killed_alone(tmp_path: Path) -> None:
    """The leader starts another, and what was lost runs again, uncharged."""
    store = tmp_path / "s"
    with running(*start_args(tmp_path, 40, 0.3), cwd=tmp_path) as process:
        await until(log_directory(store, "r"), lambda event: isinstance(event, Succeeded))
        os.kill(agent_of(str(store)), signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out) == sum(range(40))


async def test_a_job_that_kills_the_agent_harms_nobody_else(tmp_path: Path) -> None:
    store = tmp_path / "s"
    own = ["--quiet", "--run-id", "r", "--store", str(store)]
    done = orch("run", *own, FLOWS / "hostile.py", "--where", tmp_path, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["second time", [0, 1, 2, 3, 4, 5]]
    reasons = [event.reason for event in read(log_directory(store, "r")) if isinstance(event, Retrying)]
    assert set(reasons) == {"LOST"}


async def test_second_leader_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "s"
    words = ["run", "--quiet", "--run-id", "r", "--store", str(store), str(FLOWS / "endless.py")]
    with running(*words, "--where", str(tmp_path), cwd=tmp_path) as process:
        await until(log_directory(store, "r"), lambda event: isinstance(event, Running) and event.job == 2)
        second = orch("replay", "r", "--restart", "--store", store, cwd=tmp_path)
        assert second.returncode == 3
        assert str(process.pid) in second.stderr
        assert orch("cancel", "r", "--store", store, cwd=tmp_path).returncode == 0
        _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err


async def test_stopped_leader_that_wakes_up_finds_itself_fenced(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with running(*start_args(tmp_path, 300, 0.5), cwd=tmp_path) as first:
        await until(log_directory(store, "r"), lambda event: isinstance(event, Succeeded))
        first.send_signal(signal.SIGSTOP)
        second = orch("replay", "r", "--restart", "--quiet", "--take-over", "--store", store, cwd=tmp_path)
        assert second.returncode == 0, second.stderr
        assert json.loads(second.stdout) == sum(range(300))
        before = list(read(log_directory(store, "r")))
        first.send_signal(signal.SIGCONT)
        out, err = first.communicate(timeout=30)
    assert first.returncode == 3, err
    assert out == ""
    assert list(read(log_directory(store, "r"))) == before
    assert executions(tmp_path / "counts") == dict.fromkeys(range(300), 1)
    assert status(store, "r")["state"] == "succeeded"


async def test_a_restart_exports_as_the_first_leader_would_have(tmp_path: Path) -> None:
    store = tmp_path / "s"
    flow = Path(__file__).parent.parent / "examples" / "mergesort.py"
    own = ["--run-id", "r", "--quiet", "--out", str(tmp_path / "out"), "--store", str(store)]
    with running("run", *own, flow, "--lines", "3000", "--lines-per-job", "300", cwd=tmp_path) as process:
        await until(log_directory(store, "r"), lambda event: isinstance(event, Succeeded))
        process.kill()
        process.wait()
    done = orch("replay", "r", "--restart", "--quiet", "--store", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)).parent == tmp_path / "out"
