"""The adapter `lsf` keeps the contract of adapters, at programs that behave as LSF's do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rigs import FaceRig, faced

from orch.testing.adapter import AdapterContract, Rig
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces.lsf import COMMANDS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with faced(tmp_path_factory.mktemp("lsf"), COMMANDS, linger=3600) as cluster:
        yield cluster


class TestLsf(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, cluster: Cluster) -> Rig:
        cluster.reset()
        return FaceRig(tmp_path, "lsf", cluster)
