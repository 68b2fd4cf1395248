"""The adapter `fake`, on a cluster of real processes, keeps the contract, and so does the engine of them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kills import NIGHTLY
from support.rigs import FaceRig, faced

from orch.testing.adapter import AdapterContract, Rig
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.dialect import SETTING
from orch.testing.cluster.faces.fake import COMMANDS


class FakeRig(FaceRig):
    """It fails in every way that there is; and whole runs look first whether its nodes see the store."""

    many = 200 if NIGHTLY else 30

    def __init__(self, root: Path, cluster: Cluster) -> None:
        super().__init__(root, "fake", cluster)
        self.options |= {SETTING: cluster.directory, "batch-probe": "true"}

    def task(self, external: str) -> tuple[int, int]:
        job, _, index = external.partition(".")
        return int(job), int(index or 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with faced(tmp_path_factory.mktemp("cluster"), COMMANDS) as cluster:
        yield cluster


class TestFake(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, cluster: Cluster) -> Rig:
        cluster.reset()
        return FakeRig(tmp_path, cluster)
