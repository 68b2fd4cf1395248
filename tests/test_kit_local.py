"""This host keeps the contract of adapters."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar

import pytest
from support.agents import parent

from orch.adapters.contract import Adapter
from orch.adapters.local import LocalAdapter
from orch.agent import paths, processes
from orch.agent.tags import agent_name
from orch.testing.adapter import AdapterContract, Rig

NO_BATCH_SYSTEM = "there is no batch system between the agent and the attempts"


class LocalRig(Rig):
    """The agent of this host."""

    cannot: ClassVar[dict[str, str]] = {
        "cancel_outside": NO_BATCH_SYSTEM,
        "forget": NO_BATCH_SYSTEM,
        "down": NO_BATCH_SYSTEM,
        "slow": NO_BATCH_SYSTEM,
        "nonsense": NO_BATCH_SYSTEM,
        "strange": NO_BATCH_SYSTEM,
        "twice": NO_BATCH_SYSTEM,
        "lose_answer": NO_BATCH_SYSTEM,
        "refuse": NO_BATCH_SYSTEM,
        "preempt": NO_BATCH_SYSTEM,
        "start_again": NO_BATCH_SYSTEM,
        "hold": "the kit fills the host instead",
    }

    def adapter(self) -> Adapter:
        return LocalAdapter()

    def left(self) -> list[str]:
        agent = agent_name(str(self.root / "the störe"), paths.host_name())
        return [processes.tag(pid) for pid in processes.marked(f"{agent}:kit.") if not processes.is_zombie(pid)]

    def lose_node(self, external: str, pid: int) -> None:
        os.kill(parent(pid), signal.SIGKILL)  # a command's parent is the agent


class TestLocal(AdapterContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
        monkeypatch.setenv("ORCH_AGENT_LINGER", "0.3")  # agents of tests that are over are in nobody's way
        return LocalRig(tmp_path)
