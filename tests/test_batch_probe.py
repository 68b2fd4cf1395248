"""A first, small task looks whether the nodes of a batch system can work for a run."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orch import __version__
from orch.adapters.batch import probing
from orch.adapters.batch.adapter import BatchAdapter
from orch.adapters.contract import RunInfo
from orch.errors import UserError
from orch.store.file import FileStore
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.dialect import FakeDialect
from orch.testing.cluster.faces.fake import COMMANDS
from orch.worker.spool import Sight


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), slots=1) as found:
        found.install(COMMANDS)
        yield found


class Looking:
    """An adapter, a run that is to begin, and what the user was told."""

    def __init__(self, adapter: BatchAdapter, info: RunInfo) -> None:
        self.adapter = adapter
        self.info = info
        self.told: list[str] = []

    async def look(self, **options: str) -> None:
        info = msgspec.structs.replace(self.info, options={**self.info.options, **options})
        async with asyncio.timeout(60):
            await self.adapter.probe(info, self.told.append)


@pytest.fixture
async def looking(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Looking]:
    adapter = BatchAdapter("fake", FakeDialect)
    FileStore(tmp_path / "a störe").create()
    environment = {"PATH": "/usr/bin:/bin"}
    info = RunInfo("run", 1, str(tmp_path / "a störe"), environment, options={"fake-cluster": cluster.directory})
    yield Looking(adapter, info)
    await adapter.close()


def left(info: RunInfo) -> list[str]:
    """The files of the run's spool."""
    root = Path(info.store, "runs", info.run, "batch")
    return [path.name for path in root.rglob("*") if path.is_file() and not path.name.startswith("environment.")]


async def test_what_was_found_well_is_believed_for_a_day(
    looking: Looking, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await looking.look()
    assert left(looking.info) == []
    taken = cluster.counts()["submit"]
    await looking.look()
    assert cluster.counts()["submit"] == taken
    await looking.look(**{"batch-max-queued": "7"})  # what is set otherwise may make a difference
    assert cluster.counts()["submit"] == taken + 1
    monkeypatch.setattr(probing, "HOLDS", 0.0)
    await looking.look()
    assert cluster.counts()["submit"] == taken + 2


async def test_it_can_be_left_out(looking: Looking, cluster: Cluster) -> None:
    taken = cluster.counts().get("submit", 0)
    await looking.look(**{"batch-probe": "false"})
    assert cluster.counts().get("submit", 0) == taken


async def test_an_interpreter_that_is_not_there(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "LATE", 0.1)
    with pytest.raises(UserError, match=r"ended without an answer.*no such python.*--no-probe") as caught:
        await looking.look(**{"batch-python": "/no such python"})
    assert "\n" not in str(caught.value)
    assert left(looking.info) == []


async def test_who_has_to_wait_is_told_so(looking: Looking, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "SAY_FIRST", 0.0)
    monkeypatch.setattr(probing, "LOOK", 0.1)
    job = cluster.client.submit(["/bin/sleep", "1000"])
    waiting = asyncio.ensure_future(looking.look())
    while not looking.told:
        await asyncio.sleep(0.05)
    assert "waits for a first, small task of fake" in looking.told[0]
    assert "queued" in looking.told[0]
    cluster.client.cancel([(job, None)])
    await waiting


async def test_nothing_stays_of_one_that_is_given_up(looking: Looking, cluster: Cluster) -> None:
    job = cluster.client.submit(["/bin/sleep", "1000"])
    waiting = asyncio.ensure_future(looking.look())
    await asyncio.to_thread(cluster.wait, lambda rows: any(row.job > job for row in rows))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    rows = await asyncio.to_thread(
        cluster.wait, lambda found: all(row.state == "over" for row in found if row.job > job)
    )
    assert [row.reason for row in rows if row.job > job] == ["cancelled"]
    cluster.client.cancel([(job, None)])
    assert left(looking.info) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        ({"nonce": "of another file"}, "node7 cannot work for this run: it does not see the store"),
        ({"trouble": "no such file"}, r"does not see the store .* as this host does \(no such file\)"),
        ({"version": "9.9"}, "it has orch 9.9, and this host"),
        ({"python": "3.4.1"}, r"its Python is 3.4.1 \(/usr/bin/python\), .*batch-python names another"),
        ({"clock": -100.0}, r"its clock differs from that of this host by 100 seconds"),
        ({"version": "9.9", "clock": 4000.0}, r"it has orch 9.9.*its clock differs"),
    ],
)
async def test_a_node_that_is_not_fit(looking: Looking, seen: dict[str, Any], complaint: str) -> None:
    probe = probing.Probe(await looking.adapter.engine(looking.info), looking.info, looking.told.append)
    python = ".".join(map(str, sys.version_info[:3]))
    fine = Sight("node7", python, __version__, "/usr/bin/python", time.time(), probe._nonce)
    probe.judge(fine)
    if "clock" in seen:
        seen["clock"] += time.time()
    with pytest.raises(UserError, match=complaint):
        probe.judge(msgspec.structs.replace(fine, **seen))


async def test_one_that_was_forgotten_is_not_waited_for(
    looking: Looking, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "LATE", 0.1)
    monkeypatch.setattr(probing, "LOOK", 0.1)
    job = cluster.client.submit(["/bin/sleep", "1000"])
    waiting = asyncio.ensure_future(looking.look(**{"batch-missing-after": "0.1s"}))
    rows = await asyncio.to_thread(cluster.wait, lambda found: any(row.job > job for row in found))
    cluster.fault("forget", rows[-1].job)
    with pytest.raises(UserError, match=r"ended without an answer .*forgotten"):
        await waiting
    cluster.client.cancel([(job, None)])
