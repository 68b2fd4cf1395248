"""PBS keeps the contract of adapters, at commands that behave as its manual pages say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rigs import FaceRig, faced

from orch.testing.adapter import AdapterContract, Rig
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces.pbs import COMMANDS


class PbsRig(FaceRig):
    """Tasks are called "12.head.cluster" and "12[3].head.cluster"."""

    def task(self, external: str) -> tuple[int, int]:
        return super().task(re.sub(r"\.[\w.]+$", "", external))

    def cancel_outside(self, external: str) -> None:
        subprocess.run(["qdel", external], check=True, timeout=self.patience)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with faced(tmp_path_factory.mktemp("cluster"), COMMANDS) as cluster:
        yield cluster


class TestPbs(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, cluster: Cluster) -> Rig:
        cluster.reset()
        return PbsRig(tmp_path, "pbs", cluster)
