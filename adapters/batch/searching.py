"""Asks the batch system for submissions by their names: those of which it is not known whether it has them."""

from __future__ import annotations

import asyncio
import contextlib

from orch.adapters.batch.calls import Calls
from orch.adapters.batch.dialect import Dialect, Trouble
from orch.adapters.batch.watch import WINDOW

TOGETHER = 0.05
"""Seconds for which more of them are waited for, so that one question is enough."""


class Searching:
    """Of one batch system, for all runs."""

    def __init__(self, dialect: Dialect, calls: Calls) -> None:
        self._dialect = dialect
        self._calls = calls
        self._wanted: dict[str, tuple[float, list[asyncio.Future[str]]]] = {}
        self._woken = asyncio.Event()

    async def search(self, name: str, made: float) -> str:
        """What the batch system calls the submission `name`, made then (seconds since 1970); empty: it has none.

        Takes as long as it takes to get an answer.
        """
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(name, (made, []))[1].append(future)
        self._woken.set()
        return await future

    async def run(self) -> None:
        """Search, for ever."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(TOGETHER)
            self._woken.clear()
            wanted, self._wanted = self._wanted, {}
            names = list(wanted)
            size = max(1, self._dialect.most_asked)
            for part in (names[first : first + size] for first in range(0, len(names), size)):
                found = await self._search({name: wanted[name][0] for name in part})
                for name in part:
                    for future in wanted[name][1]:
                        if not future.done():  # else nobody waits any more
                            future.set_result(found.get(name, ""))

    async def _search(self, made: dict[str, float]) -> dict[str, str]:
        names, since = list(made), min(made.values()) - WINDOW
        while True:
            commands = self._dialect.search(names, since)
            with contextlib.suppress(Trouble):
                return await self._calls.ask("search", commands, lambda answers: self._dialect.found(names, answers))
