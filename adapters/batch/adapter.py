"""The adapter that every batch system's module makes of its dialect."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orch.adapters.batch.choices import Choices
from orch.adapters.batch.dialect import MakeDialect
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.session import BatchSession
from orch.adapters.contract import RunInfo, Session
from orch.adapters.options import Option
from orch.adapters.pilots.choice import PILOT
from orch.errors import UserError
from orch.store import layout

if TYPE_CHECKING:
    from orch.adapters.pilots.session import PilotSession

Alike = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]


class BatchAdapter:
    """Runs attempts by a batch system. Runs with the same options share its commands, and one watch over it.

    `settings`: those that it has, beside what `orch.adapters.settings` says of our own.
    """

    elsewhere = True

    def __init__(self, name: str, make_dialect: MakeDialect, settings: Sequence[Option] = ()) -> None:
        self.name = name
        self.settings = settings
        self._make = make_dialect
        self._engines: dict[Alike, Engine] = {}
        self._opening = asyncio.Lock()

    async def open(self, info: RunInfo) -> Session:
        """Connect a run. Raises `Fenced`, and `UserError` where the batch system cannot be used from this host."""
        engine = await self.engine(info)
        session = _session(info, engine)
        try:
            await session.open()
        except BaseException:  # cancelled, too: nobody else would close it
            await session.close()
            raise
        return session

    async def probe(self, info: RunInfo, tell: Callable[[str], None]) -> None:
        """Look whether nodes are fit for a run, unless that is not wanted. Raises `UserError`."""
        engine = await self.engine(info)
        if engine.choices.probe:
            from orch.adapters.batch.probing import probe

            await probe(engine, info, tell)

    async def engine(self, info: RunInfo) -> Engine:
        """What runs with these options share."""
        ours = {name: value for name, value in info.environment.items() if name.startswith("ORCH_")}
        alike = (frozenset(info.options.items()), frozenset(ours.items()))
        async with self._opening:
            engine = self._engines.get(alike)
            if engine is None:
                choices = Choices.of(info.options)
                engine = Engine(self.name, self._make(info.options, info.environment), choices)
                try:
                    await engine.open()
                except BaseException:  # cancelled, too: what it has started ends
                    await engine.close()
                    raise
                self._engines[alike] = engine
        return engine

    async def close(self) -> None:
        """End the commands and the watch. What the batch system has goes on."""
        while self._engines:
            _, engine = self._engines.popitem()
            await engine.close()


def _session(info: RunInfo, engine: Engine) -> BatchSession | PilotSession:
    if not info.options.get(PILOT):
        if os.path.isdir(os.path.join(info.store, layout.batch_dir(info.run), "pilots")):
            raise UserError(f"run {info.run} has jobs in pilots, so it has to go on with them: give --pilot again")
        return BatchSession(info, engine)
    from orch.adapters.pilots.session import PilotSession  # few runs need it

    return PilotSession(info, engine)
