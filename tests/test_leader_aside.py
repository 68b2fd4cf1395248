"""What a leader has done beside its turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest
from support.folded import added, begun, run_through

from orch.bus import events as ev
from orch.leader import aside
from orch.leader.supply import Supply


class Files:
    """The part of the call cache that deletes files; it only writes down which."""

    def __init__(self) -> None:
        self.removed: list[list[str]] = []

    async def remove(self, paths: Sequence[str]) -> None:
        """Not really."""
        self.removed.append(list(paths))


async def test_what_was_to_be_deleted_is_deleted_by_the_next_leader_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the one before has come to it, nothing tells: also if it was the leader before that, and one left."""
    monkeypatch.setattr(aside, "SOME", 2)
    run = begun().then(*map(added, range(1, 5)), ev.Planned(count=4))
    for job in range(1, 4):
        *first, ended = run_through(job)
        files = [ev.StoredFile(f"{name}{job}", keep="successors") for name in "ab"]
        run.then(*first, msgspec.structs.replace(ended, files=files))
        run.then(ev.Removed(job=job, files=[file.path for file in files]))
    run.then(ev.Closed(reason="left"), ev.Opened(run="r", host="h", pid=2, epoch=2))
    cache: Any = Files()

    def fetch(seq: int) -> ev.Event:
        return run.events[seq - 1]

    beside = aside.Aside(run.state, fetch, Supply(fetch), cache, lambda _: None)
    async with anyio.create_task_group() as tasks:
        beside.begin(tasks)
    assert cache.removed == [["a1", "b1", "a2", "b2"], ["a3", "b3"]]
