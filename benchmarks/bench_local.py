"""What a job that does nothing costs on this host, everything durable, beside what Python can do without us.

A figure is the cost of one more job: what many take longer than few, which leaves the start out. CPU time is that of
all processes: leader, agent, templates and the jobs themselves. On a busy machine it says more than time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from report import Row, main, scratch

from orch.agent.linux import adopt_orphans

FEW, MANY = 100, 1100
AT_ONCE = 2
ROUNDS = 3
FLOW = Path(__file__).with_name("flow_noop.py")


class Cost(NamedTuple):
    """Milliseconds."""

    wall: float
    cpu: float


def cost(work: Callable[[], object]) -> Cost:
    """What it takes, with all the processes that it leaves: they are waited for, but not as part of the time."""
    began, before = time.perf_counter(), cpu()
    work()
    wall = time.perf_counter() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return Cost(wall * 1000, (cpu() - before) * 1000)


def cpu() -> float:
    """Seconds that this process and those that it has waited for have used."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def marginal(work: Callable[[int], object]) -> Cost:
    """What one more costs."""
    few, many = cost(lambda: work(FEW)), cost(lambda: work(MANY))
    return Cost(*((more - less) / (MANY - FEW) for more, less in zip(many, few, strict=True)))


def bare_loop(count: int) -> None:
    """Programs, some at a time, with asyncio alone."""

    async def run_all() -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with places:
                process = await asyncio.create_subprocess_exec("true")
                await process.wait()

        await asyncio.gather(*(one() for _ in range(count)))

    asyncio.run(run_all())


def nothing(_: int) -> None:
    """What a worker of the standard library does."""


def executor(count: int) -> None:
    """Calls in the standard library's pool of processes, which keeps nothing."""
    with concurrent.futures.ProcessPoolExecutor(AT_ONCE) as pool:
        concurrent.futures.wait([pool.submit(nothing, number) for number in range(count)])


def of_orch(store: Path, form: str) -> Callable[[int], object]:
    """Runs as the command does them, each with an agent of its own that leaves at once when it is done."""
    command = [sys.executable, "-P", "-m", "orch.cli.main", "run", "--quiet", "--store", str(store)]
    environment = {**os.environ, "ORCH_AGENT_LINGER": "0"}

    def run(count: int) -> None:
        options = [str(FLOW), "--form", form, "--count", str(count)]
        subprocess.run([*command, *options], env=environment, stdout=subprocess.DEVNULL, check=True)

    return run


def measure() -> Iterator[Row]:
    """Milliseconds a job, in turns, and the share of the bare loop's rate that commands reach."""
    adopt_orphans()
    with scratch() as directory:
        works: dict[str, Callable[[int], object]] = {"bare": bare_loop, "executor": executor}
        works |= {form: of_orch(directory / form, form) for form in ("command", "fork", "pool")}
        rounds = [{name: marginal(work) for name, work in works.items()} for _ in range(ROUNDS)]
    wall = {name: statistics.median(each[name].wall for each in rounds) for name in works}
    used = {name: statistics.median(each[name].cpu for each in rounds) for name in works}
    note = {name: f"{milliseconds:.3g} ms of CPU" for name, milliseconds in used.items()}
    yield Row("bare asyncio subprocess loop", wall["bare"], "ms a job", note=f"{note['bare']}; {AT_ONCE} at a time")
    yield Row("a command", wall["command"], "ms a job", "<= 0.85", note["command"])
    yield Row("commands, share of the bare loop's rate", wall["bare"] / wall["command"], "", ">= 0.6")
    yield Row("a Python job, fork", wall["fork"], "ms a job", "<= 2", note["fork"])
    yield Row("a Python job, pool", wall["pool"], "ms a job", "<= 0.4", note["pool"])
    yield Row("ProcessPoolExecutor", wall["executor"], "ms a job", note=f"{note['executor']}; keeps nothing")


if __name__ == "__main__":
    main(measure, __doc__)
