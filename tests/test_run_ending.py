"""Cancel, stop and limits: what was started is ended, all of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from support.command import log_directory, orch, running, status, tagged, until

from orch.bus.events import Cancelled, Event, Running

FLOWS = Path(__file__).parent / "flows"


def three_running() -> object:
    """True from the third `running` event on."""
    seen: set[int] = set()

    def wanted(event: Event) -> bool:
        if isinstance(event, Running):
            seen.add(event.job)
        return len(seen) == 3

    return wanted


async def lingering(place: Path, mark: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a run whose jobs leave daemons."""
    place.mkdir(exist_ok=True)
    args = ["run", "--quiet", "--run-id", "r", "--store", str(place / "s"), str(FLOWS / "stubborn.py")]
    return [*args, "--where", str(place)], {"ORCH_TEST_MARK": mark, "ORCH_AGENT_LINGER": "0.2"}


async def until_ready(place: Path) -> None:
    """Wait for the files by which the jobs say that their daemons are there."""
    with anyio.fail_after(30):
        while not all((place / name).exists() for name in ("ready-0", "ready-1", "ready-2", "daemon-0", "daemon-1")):
            await anyio.sleep(0.01)  # the jobs have no other way to tell an outsider


async def until_gone(mark: str) -> None:
    """Wait until no process bears the mark."""
    with anyio.fail_after(20):
        while tagged(mark):
            await anyio.sleep(0.02)


@pytest.mark.parametrize("how", ["cancel", "stop", "ctrl-c", "cancel without a leader", "stop without a leader"])
async def test_nothing_is_left_behind(tmp_path: Path, how: str) -> None:
    store, mark = tmp_path / "s", f"mark-{os.getpid()}-{how}"
    args, env = await lingering(tmp_path, mark)
    with running(*args, cwd=tmp_path, **env) as process:
        await until(log_directory(store, "r"), three_running())
        await until_ready(tmp_path)
        assert tagged(mark)
        what = how.split(maxsplit=1)[0]
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            if how.endswith("without a leader"):
                process.kill()
                process.wait()
            done = orch(what, "r", "--store", store, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        _, err = process.communicate(timeout=30)
    if not how.endswith("without a leader"):
        assert process.returncode == (5 if what == "cancel" else 130), err
    await until_gone(mark)
    run = status(store, "r")
    states = {job["state"] for job in run["jobs"].values()}
    assert states == ({"cancelled"} if what == "cancel" else {"ready"})


async def test_a_cancelled_job_says_so(tmp_path: Path) -> None:
    store, mark = tmp_path / "s", f"mark-{os.getpid()}-says"
    args, env = await lingering(tmp_path, mark)
    with running(*args, cwd=tmp_path, **env) as process:
        await until(log_directory(store, "r"), three_running())
        orch("cancel", "r", "--store", store, cwd=tmp_path)
        process.communicate(timeout=30)
    events = await until(log_directory(store, "r"), lambda event: type(event).__name__ == "Ended")
    assert sum(isinstance(event, Cancelled) for event in events) == 3
    await until_gone(mark)
