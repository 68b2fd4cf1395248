"""A real Slurm keeps the contract of adapters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.real import Slurm
from support.slurm_rig import SlurmRig

from orch.testing.adapter import AdapterContract, Rig


class TestSlurm(AdapterContract):
    @pytest.fixture
    def rig(self, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        rig = SlurmRig(tmp_path, slurm)
        monkeypatch.setenv("PATH", rig.shims.path)
        yield rig
        rig.close()
