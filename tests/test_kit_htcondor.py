"""The adapter `htcondor` keeps the contract of adapters, at programs that behave as HTCondor's do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from support.rigs import FaceRig, faced

from orch.attempt import Reason
from orch.testing.adapter import AdapterContract, Rig
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces.htcondor import COMMANDS


class HTCondorRig(FaceRig):
    """A job whose place or node was lost is started again there, and finds its ticket taken."""

    accept: ClassVar[dict[str, set[Reason]]] = {"node": {Reason.PREEMPTED}, "preempted": {Reason.LOST}}

    def task(self, external: str) -> tuple[int, int]:
        job, _, process = external.partition(".")
        return int(job), int(process) + 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with faced(tmp_path_factory.mktemp("htcondor"), COMMANDS) as cluster:
        yield cluster


class TestHTCondor(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, cluster: Cluster) -> Rig:
        cluster.reset()
        return HTCondorRig(tmp_path, "htcondor", cluster)
