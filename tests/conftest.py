"""The environment in which all tests run, and the commands that they start."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from support.kits import SCRIPTED, SHARED

os.environ["ORCH_RETRY_BACKOFF"] = "0"  # nobody waits for a retry; tests of the back-off set their own
os.environ["XDG_CONFIG_HOME"] = "/nowhere"  # what the user has set for himself is no part of a test

# Where a test does not say how many, `make nightly` tries as many examples as hypothesis would.
settings.register_profile("sample", max_examples=40)
if os.environ.get("ORCH_NIGHTLY") != "1":
    settings.load_profile("sample")

_index = tempfile.TemporaryDirectory(prefix="orch-tests-")  # what is cached in a test is no concern of the user's
os.environ["XDG_CACHE_HOME"] = _index.name

REAL = Path(__file__).parent / "real"


def _wants_real(config: pytest.Config) -> bool:
    return any(
        REAL in (path := Path(name.partition("::")[0]).absolute()).parents or path == REAL for name in config.args
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Real batch systems are started for those who ask for them, as root."""
    return True if collection_path == REAL and not _wants_real(config) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What scripted batch systems have in common is tried with one (`support.kits`); with ORCH_NIGHTLY=1 with all."""
    if os.environ.get("ORCH_NIGHTLY") == "1":
        return
    left_out = [item for item in items if item.path.name in SCRIPTED and item.name in SHARED]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_report_header(config: pytest.Config) -> str:
    """What these tests leave out."""
    return (
        ""
        if _wants_real(config)
        else "left out: tests/real (real Slurm, Grid Engine and sshd): make test-real, as root"
    )
