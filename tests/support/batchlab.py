"""For tests of the engine of batch systems: a cluster of real processes, sessions of leaders, and what came of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from orch.adapters.batch.adapter import BatchAdapter
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.session import BatchSession
from orch.adapters.contract import Finished, RunInfo, Said
from orch.attempt import Attempt
from orch.bus.events import Resources
from orch.store import layout
from orch.store.file import FileStore
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.dialect import FakeDialect
from orch.testing.cluster.faces.fake import COMMANDS
from orch.worker.spool import Spool
from support.agents import View

TESTS = Path(__file__).parent.parent


class BatchLab:
    """One store and one cluster; leaders come and go, each with an adapter of its own."""

    def __init__(self, root: Path, **cluster: Any) -> None:
        self.root = root
        self.store = FileStore(root / "store")
        self.store.create()
        self.spool = Spool(str(self.store.root), "run")
        self.cluster = Cluster(root / "cluster", **cluster)
        self.cluster.start()
        self.cluster.install(COMMANDS)
        self.adapters: list[BatchAdapter] = []
        self.views: list[View] = []

    def info(self, epoch: int = 1, **options: str) -> RunInfo:
        """`options` with "_" for "-", and without "batch-"."""
        given = {f"batch-{name.replace('_', '-')}": value for name, value in options.items()}
        return RunInfo(
            run="run",
            epoch=epoch,
            store=str(self.store.root),
            environment={**os.environ, "LANG": "C.UTF-8"},
            python_path=[str(TESTS)],
            options={"fake-cluster": self.cluster.directory, "batch-poll-interval": "0.2s", **given},
        )

    async def open(self, epoch: int = 1, *, find: list[str] | None = None, **options: str) -> View:
        """A new leader, which asks about `find`."""
        self.lead(epoch)
        adapter = BatchAdapter("fake", FakeDialect)
        self.adapters.append(adapter)
        view = View(self, await adapter.open(self.info(epoch, **options)), "run")  # type: ignore[arg-type]
        self.views.append(view)
        await view.session.find(find or [], 1)
        return view

    def lead(self, epoch: int) -> None:
        """A leader claims a segment of the run's log."""
        directory = Path(self.store.local_path(layout.log_dir("run")))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{epoch:06d}.events.jsonl").touch()

    async def die(self, view: View) -> None:
        """The leader ends, and tells nobody: its tasks are ended where they stand."""
        session = session_of(view)
        session._closed = True
        for task in [*session._tasks, *engine_of(view)._tasks]:
            task.cancel()

    def left(self) -> list[str]:
        """Files of the run that are there still."""
        root = Path(self.spool.root)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    async def close(self) -> None:
        for view in self.views:
            await view.close()
        for adapter in self.adapters:
            await adapter.close()
        self.cluster.close()


def session_of(view: View) -> BatchSession:
    assert isinstance(view.session, BatchSession)
    return view.session


def engine_of(view: View) -> Engine:
    return session_of(view)._engine


def writes(view: View, path: Path, then: str = "", **changes: Any) -> Attempt:
    """An attempt that adds its job's number to a file, and does something."""
    job = view.job + 1
    return view.shell(f"echo {job} >> {path}; {then or 'true'}", **changes)


def asking(attempt: Attempt, **changes: Any) -> Attempt:
    """The same, with other resources."""
    wanted: Resources = msgspec.structs.replace(attempt.resources, **changes)
    return msgspec.structs.replace(attempt, resources=wanted)


def said(view: View) -> list[str]:
    """What the user was told."""
    return [update.text for update in view.updates if isinstance(update, Said)]


def ends(view: View, attempt: Attempt) -> int:
    """How often the end of an attempt was told."""
    return sum(isinstance(update, Finished) and update.key == attempt.key for update in view.updates)
