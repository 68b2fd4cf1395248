"""The adapter `fake`, on a cluster of real processes, keeps the contract, and so does the engine of them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orch.adapters.contract import Adapter
from orch.adapters.registry import make_adapter
from orch.testing.adapter import AdapterContract, Rig
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.dialect import SETTING
from orch.testing.cluster.faces.fake import COMMANDS


class FakeRig(Rig):
    """A cluster that can be made to fail in every way."""

    many = 60

    def __init__(self, root: Path, cluster: Cluster) -> None:
        super().__init__(root)
        self.cluster = cluster
        self.options = {
            SETTING: self.cluster.directory,
            "batch-poll-interval": "0.2s",
            "batch-missing-after": "1s",
            "batch-call-timeout": "2s",
        }

    def adapter(self) -> Adapter:
        return make_adapter("fake")

    def left(self) -> list[str]:
        return [repr(row) for row in self.cluster.rows() if not row.ended]

    def cancel_outside(self, external: str) -> None:
        self.cluster.client.cancel([task(external)])

    def forget(self, external: str) -> None:
        self.cluster.fault("forget", *task(external))

    def down(self, *, down: bool) -> None:
        self.cluster.set(down=down)

    def slow(self, seconds: float) -> None:
        self.cluster.set(slow=seconds)

    def nonsense(self, text: str) -> None:
        self.cluster.set(nonsense=text)

    def strange(self, external: str, word: str) -> None:
        self.cluster.fault("strange", *task(external), word=word)

    def twice(self, *, twice: bool) -> None:
        self.cluster.set(twice=twice)

    def lose_answer(self, how: str) -> None:
        self.cluster.set(lose_next=how)

    def refuse(self, text: str) -> None:
        self.cluster.set(refuse_next=text)

    def hold(self, *, hold: bool) -> None:
        self.cluster.set(paused=hold)

    def lose_node(self, external: str, pid: int) -> None:
        job, index = task(external)
        [host] = {row.host for row in self.cluster.rows() if row.job == job and index in {None, row.index}}
        self.cluster.lose_node(host)

    def preempt(self, external: str) -> None:
        self.cluster.fault("preempt", *task(external))

    def start_again(self, external: str) -> None:
        self.cluster.fault("copy", *task(external))


def task(external: str) -> tuple[int, int | None]:
    """As the cluster numbers it."""
    job, _, index = external.partition(".")
    return int(job), int(index) if index else None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), slots=4, nodes=2) as cluster:
        cluster.install(COMMANDS)
        yield cluster


class TestFake(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, cluster: Cluster) -> Rig:
        cluster.reset()
        return FakeRig(tmp_path, cluster)
