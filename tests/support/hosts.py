"""For tests of sessions over several agents: hosts that are stores of their own on this one, and can be cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from orch.adapters.agents.session import AgentsSession
from orch.adapters.contract import RunInfo
from orch.adapters.local import Link, LocalSession, dial
from orch.errors import AdapterError
from support.agents import Lab


class ToyHost:
    """A host with an agent. `cut`: nobody reaches it, and who was connected is not any more."""

    def __init__(self, root: Path, name: str, cores: float) -> None:
        self.name = name
        self.cores = cores
        self.lab = Lab(root / name)
        self.links: list[Link] = []
        self.remarks: list[str] = []
        self.refusal: AdapterError | None = None
        self.sessions: list[LocalSession] = []

    async def connect(self, info: RunInfo) -> LocalSession:
        if self.refusal is not None:
            raise self.refusal
        here = msgspec.structs.replace(
            info,
            store=str(self.lab.store.root),
            work_dir=str(self.lab.work_dir),
            cores=self.cores,
        )
        session = LocalSession(here, self._dial, lasting=False)
        await session.connect()
        self.sessions.append(session)
        return session

    async def _dial(self, info: RunInfo, make_link: Callable[[], Link]) -> tuple[str, Link]:
        runtime, link = await dial(info, make_link)
        self.links.append(link)
        return runtime, link

    def cut(self, why: str = "no route to it") -> None:
        """Cut it off."""
        self.refusal = AdapterError(why)
        for link in self.links:
            link.drop()

    def mend(self) -> None:
        """It can be reached again."""
        self.refusal = None


async def opened(info: RunInfo, hosts: list[ToyHost], lost_after: float = 60.0) -> AgentsSession:
    """A session over these."""
    session = AgentsSession(info, hosts, lost_after)
    try:
        await session.open()
    except BaseException:
        await session.close()
        raise
    return session
