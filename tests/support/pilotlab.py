"""For tests of pilots: a cluster of real processes, and leaders whose attempts run in agents on its nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from orch.adapters.contract import RunInfo
from orch.adapters.pilots.session import PilotSession
from orch.testing.cluster.client import Row
from orch.worker.pilot_files import PilotFiles
from support.agents import PATIENCE, View
from support.batchlab import BatchLab


class PilotLab(BatchLab):
    """Pilots listen on this host's own address only."""

    def __init__(self, root: Path, **cluster: Any) -> None:
        super().__init__(root, **cluster)
        self.files = PilotFiles(self.spool)

    def info(self, epoch: int = 1, **options: str) -> RunInfo:
        """`pilot`: as on the command line."""
        return super().info(epoch, **{"pilot": "nodes=1,cores=2", "pilot_address": "127.0.0.1", **options})

    async def die(self, view: View) -> None:
        """The leader ends where it stands: its connections are cut, and it says nothing any more."""
        session = pilots_of(view)
        session._batch._closed = True
        tasks = [*session._tasks, *session._batch._tasks, *session._engine._tasks, *session._agents._board.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.views.remove(view)

    def pilots(self) -> list[Row]:
        """Those that the cluster has."""
        return [row for row in self.cluster.rows() if row.state != "over"]


def pilots_of(view: View) -> PilotSession:
    assert isinstance(view.session, PilotSession)
    return view.session


async def until(wanted: object) -> None:
    """Look again and again until that is so."""
    async with asyncio.timeout(PATIENCE):
        while not wanted():  # type: ignore[operator]
            await asyncio.sleep(0.02)
