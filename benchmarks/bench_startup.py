"""Start-up: the wall time of a run of one job from the shell, beside what Python itself takes.

Medians of several turns. "cold" is a new store, for which an agent and a template have to be started; "warm" finds the
agent of the turn before.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from report import Row, main, scratch

TURNS = 9
ORCH = str(Path(sys.executable).with_name("orch"))
FLOW = str(Path(__file__).with_name("flow_noop.py"))
WARM = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment: without bytecode, nothing would be measured but Python's compiler."""

SPAWN = "import asyncio; asyncio.run((lambda: asyncio.create_subprocess_exec('true'))())"


def timed(command: Callable[[int], list[str]]) -> float:
    """Seconds, the median over the turns; the first one, which fills the disk cache, does not count."""
    took = []
    for turn in range(TURNS + 1):
        started = time.perf_counter()
        subprocess.run(command(turn), check=True, stdout=subprocess.DEVNULL, env=WARM)
        took.append(time.perf_counter() - started)
    return statistics.median(took[1:])


def orch_run(store: Path, form: str) -> list[str]:
    """A run of one job."""
    return [ORCH, "run", "--quiet", "--store", str(store), FLOW, "--form", form, "--count", "1"]


def measure() -> Iterator[Row]:
    """Seconds for each way to start."""
    with scratch() as directory:
        yield Row("python -c pass", timed(lambda _: [sys.executable, "-c", "pass"]), "s", note="floor")
        yield Row("python, one asyncio subprocess", timed(lambda _: [sys.executable, "-c", SPAWN]), "s", note="floor")
        yield Row("orch --version", timed(lambda _: [ORCH, "--version"]), "s")
        for form in ("fork", "command"):
            # mypy takes a default that binds a loop's variable for another signature: hence the two ignores
            cold = timed(lambda turn, form=form: orch_run(directory / f"{form}{turn}", form))  # type: ignore[misc]  # mypy infers no lambda with a default
            yield Row(f"orch run, one job, {form}, cold", cold, "s", "<= 0.25", "from the shell")
            warm = timed(lambda _, form=form: orch_run(directory / "warm", form))  # type: ignore[misc]  # mypy infers no lambda with a default
            yield Row(f"orch run, one job, {form}, warm", warm, "s", "<= 0.25", "from the shell")


if __name__ == "__main__":
    main(measure, __doc__)
