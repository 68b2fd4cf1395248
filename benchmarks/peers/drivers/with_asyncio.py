"""A bare loop of asyncio that starts programs, and keeps nothing: the floor for commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

from common import AT_ONCE, Workload, by_itself, drive


async def start() -> None:
    """One program, to its end."""
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0


async def all_of(size: int) -> None:
    """So many, AT_ONCE at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with places:
            await start()

    await asyncio.gather(*(one() for _ in range(size)))


async def one_by_one(size: int) -> None:
    """So many, one after the other."""
    for _ in range(size):
        await start()


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """Nothing has to be up."""
    yield {"jobs": lambda size: asyncio.run(all_of(size)), "chain": lambda size: asyncio.run(one_by_one(size))}


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs")})
