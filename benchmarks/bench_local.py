"""Jobs a second on this host: 1,000 jobs that do nothing, everything durable, beside what Python can do without us.

A rate is that of a whole `orch.run`, from planning to the result, with an agent that is started for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flow_noop import main as workflow
from report import Row, main, scratch

import orch

COUNT = 1000
AT_ONCE = 2


def rate(work: Callable[[], object]) -> float:
    """How many of COUNT are done in a second."""
    started = time.perf_counter()
    work()
    return COUNT / (time.perf_counter() - started)


async def bare_loop() -> None:
    """COUNT programs, AT_ONCE at a time, with asyncio alone."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with places:
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()

    await asyncio.gather(*(one() for _ in range(COUNT)))


def nothing(_: int) -> None:
    """What a worker of the standard library does."""


def executor() -> None:
    """COUNT calls in the standard library's pool of processes, which keeps nothing."""
    with concurrent.futures.ProcessPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(nothing, number) for number in range(COUNT)]
        concurrent.futures.wait(futures)


def of_orch(directory: Path, form: str) -> float:
    """Jobs a second of one form, in a store of their own."""
    return rate(lambda: orch.run(workflow, form=form, count=COUNT, store=directory / form))


def measure() -> Iterator[Row]:
    """Jobs a second, and the share of the bare loop's rate that commands reach."""
    with scratch() as directory:
        before = rate(lambda: asyncio.run(bare_loop()))
        commands = of_orch(directory, "command")
        after = rate(lambda: asyncio.run(bare_loop()))
        bare = (before + after) / 2
        yield Row("bare asyncio subprocess loop", bare, "jobs/s", note=f"floor; {AT_ONCE} at a time")
        yield Row("1,000 commands", commands, "jobs/s")
        yield Row("1,000 commands, share of the bare loop", commands / bare, "", ">= 0.5")
        yield Row("1,000 Python jobs, fork", of_orch(directory, "fork"), "jobs/s", ">= 400")
        yield Row("1,000 Python jobs, pool", of_orch(directory, "pool"), "jobs/s", ">= 1500")
        yield Row("ProcessPoolExecutor", rate(executor), "jobs/s", note=f"keeps nothing; {AT_ONCE} workers")


if __name__ == "__main__":
    main(measure, __doc__)
