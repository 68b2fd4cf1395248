"""A pilot, as a session over agents knows it: a host that can be reached once it has said where it listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from orch.adapters.agents.host import HostSession
from orch.adapters.contract import RunInfo
from orch.adapters.local import Link, LocalSession
from orch.adapters.pilots.sealed import dial_pilot
from orch.bus.hands import hands
from orch.errors import AdapterError
from orch.worker.pilot_files import Address, PilotFiles

SEEN_WITHIN = 20.0
"""Seconds in which it is seen where a pilot listens, on a slow file server."""

LOOK = 0.1


class PilotHost:
    """`up` is called each time that it is connected, `cut` when it is to be connected again. `dead`: there is none."""

    def __init__(
        self,
        name: str,
        files: PilotFiles,
        up: Callable[[str, Address], None],
        cut: Callable[[str], None],
        *,
        dead: bool = False,
    ) -> None:
        self.name = name
        self.remarks: list[str] = []
        self._files = files
        self._up = up
        self._cut = cut
        self._dead = dead
        self._was_up = False

    async def connect(self, info: RunInfo) -> HostSession:
        """A session with it. No environment is sent. Raises `Fenced`, `AdapterError`."""
        if self._dead:
            await asyncio.Event().wait()
        if self._was_up:
            self._cut(self.name)
        address, secret = await self._address()

        async def dial(_: RunInfo, make_link: Callable[[], Link]) -> tuple[str, Link]:
            return address.runtime, await dial_pilot(address, secret, make_link)

        there = msgspec.structs.replace(info, environment={}, options={}, work_dir="", cores=0.0, memory=0, disk=0)
        session = LocalSession(there, dial, lasting=False)
        await session.connect()
        self._was_up = True
        self._up(self.name, address)
        return session

    async def _address(self) -> tuple[Address, bytes]:
        """Where it listens, and its secret."""
        for _ in range(int(SEEN_WITHIN / LOOK)):
            found = await hands().run(self._read)
            if found is not None:
                return found
            await asyncio.sleep(LOOK)
        raise AdapterError("it has not said where it listens")

    def _read(self) -> tuple[Address, bytes] | None:
        try:
            address = self._files.address(self.name)
            return (address, self._files.secret(self.name)) if address is not None else None
        except (OSError, ValueError) as error:
            raise AdapterError(f"where it listens cannot be read: {error}") from error
