"""What runs jobs elsewhere, and beside it this host: for jobs with `local`, and for surveys, which only look at values.

So no adapter for other hosts needs to know of local jobs. This host's agent is started when the first one comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from orch.adapters.contract import Adapter, Capacity, Finished, RunInfo, Said, Session, Unknown, Update
from orch.attempt import Attempt


class MixedAdapter:
    """Runs attempts by `there`, but for those that belong on this host: they are for `here`."""

    def __init__(self, there: Adapter, here: Adapter) -> None:
        self.name = there.name
        self.there = there
        self._here = here

    async def open(self, info: RunInfo) -> Session:
        """Connect a run. Raises as `there` does."""
        return MixedSession(await self.there.open(info), self._here, info)

    async def probe(self, info: RunInfo, tell: Callable[[str], None]) -> None:
        """Look whether the hosts there are fit for a run. Raises `UserError`."""
        probe = getattr(self.there, "probe", None)
        if probe is not None:
            await probe(info, tell)

    async def close(self) -> None:
        """End what either has started in this process."""
        try:
            await self.there.close()
        finally:
            await self._here.close()


class MixedSession:
    """One run's connection to both.

    An attempt is where an update about it came from; and before there is any, where it was handed over to. A key is
    unknown once both have said so.
    """

    def __init__(self, there: Session, adapter: Adapter, info: RunInfo) -> None:
        self._there = there
        self._adapter = adapter
        self._info = info
        self._here: Session | None = None
        self._opening = asyncio.Lock()
        self._sides: dict[str, Session] = {}
        self._unknown: dict[str, Session] = {}  # who has said so first, to the latest question
        self._ask = 0
        self._news: asyncio.Queue[list[Update] | Exception] = asyncio.Queue()
        self._listening = [asyncio.ensure_future(self._listen(there))]

    async def _open_here(self) -> Session:
        async with self._opening:
            if self._here is None:
                self._here = await self._adapter.open(self._info)
                self._listening.append(asyncio.ensure_future(self._listen(self._here)))
            return self._here

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand over attempts, each where it belongs."""
        local = [each for each in attempts if each.local or each.survey]
        others = [each for each in attempts if not (each.local or each.survey)]
        self._sides.update({each.key: self._there for each in others})
        if others:
            await self._there.submit(others)
        if local:
            here = await self._open_here()
            self._sides.update({each.key: here for each in local})
            await here.submit(local)

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended."""
        for session, of_it in self._by_side(keys):
            await session.cancel(of_it)

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        for session, of_it in self._by_side(keys):
            await session.stop_services(of_it)

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """Of the run, wherever its attempts are: each side keeps to it."""
        for session in self._sessions:
            await session.limit(cores, memory, disk)

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Have outcomes forgotten."""
        for session, of_it in self._by_side(keys):
            await session.acknowledge(of_it)
        for key in keys:
            self._sides.pop(key, None)

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask both. This host is left alone where nobody can have handed anything over to it."""
        self._unknown.clear()
        self._ask = ask
        if keys or self._info.epoch > 1:
            await self._open_here()
        for session in self._sessions:
            await session.find(keys, ask)

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates of both. Raises what either raises."""
        while True:
            batch = await self._news.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def capacity(self) -> Capacity:
        """Elsewhere: how much this host runs at once is its agent's matter."""
        return self._there.capacity()

    def stand_still(self, *, waits: bool) -> None:
        """Told to both."""
        for session in self._sessions:
            session.stand_still(waits=waits)

    async def describe(self, key: str) -> str:
        """Why it does not run yet."""
        return await self._side(key).describe(key)

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What it has written so far."""
        return await self._side(key).output(key)

    async def close(self) -> None:
        """Let go of both."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        for session in self._sessions:
            await session.close()

    # Sides ----------------------------------------------------------------------------------------------------

    @property
    def _sessions(self) -> list[Session]:
        return [self._there] if self._here is None else [self._there, self._here]

    def _side(self, key: str) -> Session:
        return self._sides.get(key, self._there)

    def _by_side(self, keys: Sequence[str]) -> list[tuple[Session, list[str]]]:
        found = [(session, [key for key in keys if self._side(key) is session]) for session in self._sessions]
        return [(session, of_it) for session, of_it in found if of_it]

    async def _listen(self, session: Session) -> None:
        try:
            async for batch in session.updates():
                self._news.put_nowait([each for each in batch if self._counts(session, each)])
        except Exception as error:  # noqa: BLE001 - whatever ends the stream of one ends that of both
            self._news.put_nowait(error)

    def _counts(self, session: Session, update: Update) -> bool:
        """Is it news to the leader? Remembers whose attempt it is about."""
        if isinstance(update, Said):
            return True
        key = update.outcome.key if isinstance(update, Finished) else update.key
        if not isinstance(update, Unknown):
            self._sides[key] = session
            self._unknown.pop(key, None)
            return True
        side = self._sides.get(key)
        if self._here is None or side is not None:
            return side in {None, session}
        if not update.ask:  # an agent that has not heard the question, and has to be asked: its predecessor has died
            return True
        if update.ask != self._ask:  # an old answer, and nobody waits for it
            return False
        return self._unknown.setdefault(key, session) is not session
