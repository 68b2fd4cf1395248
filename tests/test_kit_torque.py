"""Torque keeps the contract of adapters, at commands that behave as its manual pages say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from support.rigs import FaceRig, faced

from orch.attempt import Reason
from orch.testing.adapter import AdapterContract, Rig
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces.torque import COMMANDS


class TorqueRig(FaceRig):
    """Tasks are called "12.head.cluster" and "12[3].head.cluster"."""

    accept: ClassVar[dict[str, set[Reason]]] = {
        # exit_status is 271 for whatever was ended by SIGTERM
        "preempted": {Reason.KILLED, Reason.FAILED},
    }

    def task(self, external: str) -> tuple[int, int]:
        return super().task(re.sub(r"\.[\w.]+$", "", external))

    def cancel_outside(self, external: str) -> None:
        subprocess.run(["qdel", external], check=True, timeout=self.patience)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with faced(tmp_path_factory.mktemp("cluster"), COMMANDS, linger=300.0) as cluster:  # keep_completed
        yield cluster


class TestTorque(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, cluster: Cluster) -> Rig:
        cluster.reset()
        return TorqueRig(tmp_path, "torque", cluster)
