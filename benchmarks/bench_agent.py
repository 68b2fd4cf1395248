"""Attempts a second straight through the local adapter, without a leader: what the agent costs.

1,000 that do nothing of each form, beside a bare asyncio loop that starts as many programs, as many at a time.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from report import Row, main, scratch

from orch.adapters.contract import Finished, RunInfo
from orch.adapters.local import LocalAdapter, LocalSession
from orch.attempt import Attempt, CommandSpec
from orch.bus.events import Blob, Resources
from orch.store.file import FileStore

COUNT = 1000
BODIES = {
    "command": msgspec.json.encode(CommandSpec(argv=["true"])),
    "fork": pickle.dumps((int, (), {}), 5),
    "pool": pickle.dumps((int, (), {}), 5),
}


async def bare_loop(at_once: int) -> float:
    """Programs a second with asyncio alone."""
    places = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with places:
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(COUNT)))
    return COUNT / (time.perf_counter() - started)


async def rate(session: LocalSession, form: str) -> float:
    """Attempts of one form a second."""
    await warm_up(session, form)
    attempts = [attempt(form, number) for number in range(COUNT)]
    started = time.perf_counter()
    await session.submit(attempts)
    await until(session, COUNT)
    return COUNT / (time.perf_counter() - started)


async def warm_up(session: LocalSession, form: str) -> None:
    """So that templates and workers are there."""
    await session.submit([attempt(form, COUNT + number) for number in range(20)])
    await until(session, 20)


async def until(session: LocalSession, count: int) -> None:
    """Wait for the ends of `count` attempts, and acknowledge them."""
    async for batch in session.updates():
        keys = [update.key for update in batch if isinstance(update, Finished)]
        await session.acknowledge(keys)
        count -= len(keys)
        if count <= 0:
            return


def attempt(form: str, number: int) -> Attempt:
    """One that does nothing."""
    body = BODIES[form]
    return Attempt(
        key=f"bench-{form}.{number}.1",
        run="bench",
        job=number,
        attempt=1,
        epoch=1,
        kind="nothing",
        name="",
        form=form,
        body=Blob(data=body, size=len(body)),
        resources=Resources(),
    )


async def rates(directory: Path) -> dict[str, float]:
    """Of all forms, and of the bare loop."""
    FileStore(directory / "store").create()
    info = RunInfo("bench", 1, str(directory / "store"), dict(os.environ), work_dir=str(directory / "work"))
    session = await LocalAdapter().open(info)
    try:
        found = {form: await rate(session, form) for form in BODIES}
        found["bare"] = await bare_loop(int(session.capacity().cores))
        return found
    finally:
        await session.close()


def measure() -> Iterator[Row]:
    """Attempts a second, and the share of the bare loop's rate that commands reach."""
    with scratch() as directory:
        found = asyncio.run(rates(directory))
    yield Row("bare asyncio loop", found["bare"], "programs/s")
    yield Row("agent: commands", found["command"], "attempts/s")
    yield Row("agent: commands, of the bare loop's rate", found["command"] / found["bare"], "")
    yield Row("agent: Python, forked", found["fork"], "attempts/s")
    yield Row("agent: Python, warm workers", found["pool"], "attempts/s")


if __name__ == "__main__":
    main(measure, __doc__)
