"""PBS keeps the contract of adapters, at commands that behave as its manual pages say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rigs import FaceRig, faced

from orch.attempt import Reason
from orch.testing.adapter import AdapterContract, Bench, Rig
from orch.testing.adapter.story import story
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

    @story("lose_node")
    async def test_tasks_of_an_array_are_started_again_and_leave(self, bench: Bench) -> None:
        """PBS takes no arrays that are not to be run again. The first worker had the ticket, so it is lost for good."""
        leader = await bench.begin()
        attempts = [bench.shell("sleep 3600") for _ in range(2)]
        await leader.submit(*attempts)
        pids = [(await leader.started(attempt)).pid for attempt in attempts]
        for attempt, pid in zip(attempts, pids, strict=True):
            bench.rig.lose_node(await leader.taken(attempt), pid)
        assert isinstance(bench.rig, PbsRig)
        for node in ("node1", "node2"):
            bench.rig.cluster.restore_node(node)
        for attempt in attempts:
            outcome = await leader.finished(attempt)
            assert outcome.reason is Reason.LOST, outcome
            assert bench.ran(attempt) == 1
