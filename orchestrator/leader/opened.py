"""A run that is open in this process: its state, and (unless it has ended) its leader, log, lock and session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anyio

from orch.adapters.contract import Session
from orch.bus import events as ev
from orch.bus.lease import RENEW
from orch.bus.log import Log
from orch.bus.machine import Machine
from orch.bus.topic import Topic
from orch.errors import Fenced, LogTrouble
from orch.leader.calls import Cache
from orch.leader.leader import Leader
from orch.leader.opening import Lock
from orch.leader.requests import Request, drop_request
from orch.leader.settings import Settings
from orch.leader.snapshots import Snapshots
from orch.leader.summarizing import Summarizer
from orch.leader.supply import Supply
from orch.state.model import State

MakeCache = Callable[[Callable[[str], None]], Cache]
"""Makes the call cache of a run; gets a function that says something to the user."""


class Ended:
    """A run that has nothing left to do: it is only read."""

    leader: Leader | None = None

    def __init__(self, run: str, state: State, topic: Topic, fetch: Callable[[int], ev.Event]) -> None:
        self.run = run
        self.state = state
        self.topic = topic
        self.fetch = fetch
        self.supply = Supply(fetch)

    async def lead(self, published: Callable[[list[ev.Event]], None]) -> None:
        """Nothing to lead."""


class Opened:
    """A run that this process leads. `summary`: is one kept beside the log, and snapshots?"""

    def __init__(
        self,
        run: str,
        state: State,
        log: Log,
        *,
        lock: Lock,
        session: Session,
        settings: Settings,
        machine: Machine,
        cache: MakeCache | None = None,
        summary: bool = False,
    ) -> None:
        self.run = run
        self.state = state
        self.settings = settings
        self.topic = Topic(log.directory, last_seq=log.last_seq)
        self.fetch: Callable[[int], ev.Event] = log.fetch
        self._log = log
        self._lock = lock
        self._session = session
        self._machine = machine
        self._published: Callable[[list[ev.Event]], Any] = lambda _: None
        self._cache = cache(self._warn) if cache is not None else None
        self._summary = Summarizer(log, state) if summary else None
        self._snapshots = Snapshots(log, state, run) if summary else None
        self.leader = Leader(
            state, log, session, settings, publish=self._publish, recorded=self._recorded, calls=self._cache
        )
        self.supply = self.leader.supply

    def _warn(self, text: str) -> None:
        self.leader.warn(text)

    def _publish(self, events: list[ev.Event]) -> None:
        self.topic.publish(events)
        self._published(events)
        if self._summary is not None:
            self._summary.committed()
        if self._snapshots is not None:
            self._snapshots.committed()

    @staticmethod
    def _recorded(request: Request) -> None:
        if request.file:
            drop_request(request)

    async def lead(self, published: Callable[[list[ev.Event]], None]) -> None:
        """Lead the run to its end; whatever happens, let go of everything."""
        self._published = published
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep)
                if self._summary is not None:
                    tasks.start_soon(self._summary.keep, self._machine.sleep)
                if self._snapshots is not None:
                    tasks.start_soon(self._snapshots.keep, self._machine.offload)
                await self.leader.lead()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self.release()

    async def _keep(self) -> None:
        """Renew the lock's lease, and find out, also in a run in which nothing happens, when another one leads."""
        while True:
            await self._machine.sleep(RENEW)
            with contextlib.suppress(LogTrouble):  # a file server that does not answer now; a commit would tell
                await self._machine.offload(self._lock.renew)
                await self._log.check()

    async def describe(self, key: str) -> str:
        """Why an attempt does not run yet, as its batch system sees it. One line, or empty."""
        return await self._session.describe(key)

    async def release(self) -> None:
        """Close the log in order if that was not done, and let go of session and lock. Live attempts go on."""
        try:
            with contextlib.suppress(Fenced, LogTrouble):  # whoever leads has heard of it before
                await self.leader.leave()
                await self._log.close()
                if self._summary is not None:
                    self._summary.last()
                if self._snapshots is not None and self._snapshots.is_due:
                    await self._machine.offload(self._snapshots.last)
        finally:
            if self._cache is not None:
                await self._cache.close()
            await self._session.close()
            self._lock.release()
            self.topic.close()
