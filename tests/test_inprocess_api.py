"""Everything in one process, from a program: beside its loop, in a thread, several runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orch import api
from orch.adapters.inprocess import InProcessAdapter
from orch.bundle import Source
from orch.work.foreground import Interrupted, interruptible, no_loop


async def test_a_running_loop_is_not_disturbed(tmp_path: Path) -> None:
    from flows import small

    here = asyncio.current_task()
    async with api.Orchestrator(tmp_path / "s", InProcessAdapter()) as orchestrator:
        handle = await orchestrator.start(small.main)
        result = await handle.result()
    assert asyncio.current_task() is here
    assert result is not None


def test_in_a_thread_without_signals(tmp_path: Path) -> None:
    from flows import small

    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(api.run(small.main, store=tmp_path / "s", settings={"adapter": "inprocess"}))
    )
    thread.start()
    thread.join(60)
    assert len(found) == 1


SCRIPT = """
import asyncio, dataclasses, sys
import orch

@dataclasses.dataclass
class Point:
    x: int

@orch.job
def move(point):
    assert isinstance(point, Point)
    return Point(point.x + 1)

@orch.workflow
def main(x: int):
    return move(move(Point(x)))

async def loop(**settings):
    return orch.run(main, 6, settings=settings)

if __name__ == "__main__":
    print(orch.run(main, 5, settings={"adapter": "inprocess"}))
    print(orch.run(main, 5, settings={"adapter": "inprocess", "deploy": True}))
    print(asyncio.run(loop(adapter="inprocess")))
    print(orch.run(main, 5))
"""


def test_several_runs_of_one_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Point(x=7)", "Point(x=7)", "Point(x=8)", "Point(x=7)"]


async def test_runs_at_once_of_files_with_the_same_name(tmp_path: Path) -> None:
    text = "import orch\n@orch.job\ndef NAME(x):\n    return 'NAME', x\n"
    text += "@orch.workflow\ndef main():\n    return [NAME(x) for x in range(3)]\n"
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "wf.py").write_text(text.replace("NAME", name))
    async with api.Orchestrator(tmp_path / "s", "inprocess") as orchestrator:
        sources = [Source.file(str(tmp_path / name / "wf.py"), deploy=False) for name in "ab"]
        runs = [await orchestrator.start(source, run_id=f"r{number}") for number, source in enumerate(sources)]
        results = [await run.result() for run in runs]
    assert results == [[(name, x) for x in range(3)] for name in "ab"]


async def test_jobs_may_run_loops_of_their_own() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with no_loop():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        assert asyncio.run(asyncio.sleep(0, "value")) == "value"
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
    assert await asyncio.sleep(0, "goes on") == "goes on"


def test_a_signal_is_told_once_more() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        with pytest.raises(Interrupted), interruptible():
            signal.raise_signal(signal.SIGTERM)
        with interruptible(), contextlib.suppress(SystemExit):  # user code may survive it: it is told all the same
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM] * 2
