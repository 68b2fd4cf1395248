"""What the drivers of all engines have in common. Runs in the engines' own environments: the standard library alone.

    python with_ENGINE.py FORM WORKLOAD:SIZE …

runs each workload at each size, and prints a line of JSON for each: seconds, or what else was found, or the error. The
workloads:

`jobs`   SIZE jobs that do nothing and do not depend on each other, AT_ONCE at a time, results collected
`chain`  SIZE jobs, each of which takes the value of (or waits for) the one before it
`tree`   a binary tree of SIZE jobs (2**k - 1), in which each job makes the two below it while it runs
`one`    one job, from the shell: the engine is started for it, and ended
`kill`   SIZE jobs that each append a line to a file; the engine is killed with SIGKILL, and all that is in its process
         group, when half of the lines are there, and is told to carry on: how many jobs ran twice?

`one` and `kill` begin with nothing up; for the others the engine is up, and has run some jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

AT_ONCE = 2
WARM = 40
"""Jobs that are run before anything is measured."""

PATIENCE = 300
"""Seconds for one life of an engine that is to be killed."""

Found = dict[str, float]
Workload = Callable[[int], Found | None]
Session = Callable[[], AbstractContextManager[Mapping[str, Workload]]]
Lives = Callable[[Path, int], Sequence[list[str]]]
"""From a directory, and a number of jobs that append a line to `lines` in it: what begins, and what carries on."""


def drive(session: Session | None, outside: Mapping[str, Workload]) -> None:
    """The command line of a driver. `session` gives the workloads that need the engine up, `outside` are the others."""
    wanted = [(name, int(size)) for name, _, size in (text.partition(":") for text in sys.argv[2:])]
    with tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as place:
        os.chdir(place)
        try:
            inside = [one for one in wanted if one[0] not in outside]
            if inside and session is not None:
                with session() as workloads:
                    if inside != [("jobs", 1)]:
                        workloads["jobs"](WARM)
                    _all(workloads, inside)
            _all(outside, [one for one in wanted if one[0] in outside])
        finally:
            os.chdir("..")


def _all(workloads: Mapping[str, Workload], wanted: Sequence[tuple[str, int]]) -> None:
    for name, size in wanted:
        try:
            begun = time.perf_counter()
            found = workloads[name](size)
            said: dict[str, Any] = {"seconds": time.perf_counter() - begun} | (found or {})
        except Exception as error:  # noqa: BLE001 - a row that says so; the rest goes on
            said = {"error": _problem(error)}
        print(json.dumps({"workload": name, "size": size} | said), file=_stdout, flush=True)


def _problem(error: Exception) -> str:
    """For a table that others read: without the paths of this machine."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"`{os.path.basename(error.cmd[0])}` ended with exit code {error.returncode}"
    return f"{type(error).__name__}: {error}"[:300]


def form() -> str:
    """The way in which the engine is to run jobs."""
    return sys.argv[1]


def call(*command: str, **variables: str) -> str:
    """What a program prints; its errors go where ours go."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **variables})
    return done.stdout


def beside(program: str) -> str:
    """A program of the environment that this interpreter belongs to."""
    return str(Path(sys.executable).with_name(program))


def fresh(name: str) -> Path:
    """An empty directory in the present one."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=".")).resolve()


def append_line(path: str) -> None:
    """What a job does whose runs are counted."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, b"x\n")
    os.close(handle)


def count(tree: Any) -> int:
    """How many jobs made this: the value of each is the list of the values of those below it."""
    return 1 + sum(map(count, tree))


def killed(lives: Lives) -> Workload:
    """The workload `kill`."""

    def workload(size: int) -> Found:
        place = fresh("kill")
        lines = place / "lines"
        first, *others = lives(place, size)
        engine = subprocess.Popen(first, cwd=place, stdout=sys.stderr, start_new_session=True)
        until = time.monotonic() + PATIENCE
        while _count(lines) < size // 2 and engine.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        over = engine.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
        if over:
            raise RuntimeError("it had ended before it could be killed")
        before = _count(lines)
        for command in others:
            subprocess.run(command, cwd=place, stdout=sys.stderr, check=True, timeout=PATIENCE)
        if _count(lines) < size:
            raise RuntimeError(f"{size - _count(lines)} jobs have not run at all")
        return {"before": before, "twice": _count(lines) - size}

    return workload


def _count(lines: Path) -> int:
    return lines.read_bytes().count(b"\n") if lines.exists() else 0


def by_itself(name: str) -> Workload:
    """A workload of this very driver, at the same size, in a process of its own: from the shell."""

    def workload(size: int) -> None:
        again(name, size)

    return workload


def again(name: str, size: int) -> None:
    """Run one workload of this driver in a process of its own. Raises `RuntimeError` if it fails."""
    said = json.loads(call(*this_driver(name, size)))
    if "error" in said:
        raise RuntimeError(said["error"])


def this_driver(name: str, size: int) -> list[str]:
    """A command line."""
    return [sys.executable, os.path.abspath(sys.argv[0]), form(), f"{name}:{size}"]


def simply_again(_place: Path, size: int) -> list[list[str]]:
    """The lives of an engine that is started in the driver's process: its workload `life`, twice."""
    return [this_driver("life", size)] * 2


def lines_of_life() -> str:
    """The file that the jobs of `life` append to: beside the directory of the driver, which does not outlive it."""
    return os.path.abspath(os.path.join("..", "lines"))


@contextlib.contextmanager
def directory(name: str) -> Iterator[Path]:
    """An empty directory that is removed in the end."""
    place = fresh(name)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _own_stdout() -> int:
    """The stdout that was given; what an engine prints goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


_stdout = os.fdopen(_own_stdout(), "w")
