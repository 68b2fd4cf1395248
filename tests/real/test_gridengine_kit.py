"""A real Grid Engine keeps the contract of adapters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gridengine_rig import GridEngine, GridEngineRig

from orch.testing.adapter import AdapterContract, Rig


class TestGridEngine(AdapterContract):
    @pytest.fixture
    def rig(self, gridengine: GridEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        rig = GridEngineRig(tmp_path, gridengine)
        monkeypatch.setenv("PATH", rig.shims.path)
        yield rig
        rig.close()
