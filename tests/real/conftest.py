"""Real batch systems for the tests in this directory: started when a test wants one, ended when all tests are over."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gridengine_rig import GridEngine
from support.real import Slurm, free_ports


def pytest_sessionstart() -> None:
    """Without root nothing can be started: that is said in one line."""
    if os.geteuid() != 0:
        pytest.exit("tests/real starts real batch systems, which takes root: nothing was tested", returncode=2)


def pytest_itemcollected(item: pytest.Item) -> None:
    """To start a system may take a minute, and counts in the time of the test that wants it first."""
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that other users can look into, with a short name: sockets are below it."""
    path = Path(tempfile.mkdtemp(prefix="orch-real-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def slurm(place: Path) -> Iterator[Slurm]:
    """A Slurm of three nodes, of four cores, 2 GB and two pretended GPUs each, in the environment of all tests."""
    system = Slurm(place / "slurm", nodes=3, port=free_ports(6))
    with system.running():
        yield system


@pytest.fixture(scope="session")
def gridengine(place: Path) -> Iterator[GridEngine]:
    """A Grid Engine of one host with four slots, in the environment of all tests."""
    system = GridEngine("sge", place / "sge", {"SGE_PORT": str(free_ports(2)), "SGE_SLOTS": "4"})
    with system.running():
        yield system
