"""A real PostgreSQL server as a service, used by several jobs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flows import postgres

import orch

MISSING = [name for name in ("initdb", "pg_ctl", "psql") if shutil.which(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"there is no PostgreSQL here to try it with: {', '.join(MISSING)} missing")
def test_jobs_share_a_database(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert orch.run(postgres.main, log=str(log), store=tmp_path / "store") == 6
    up, down = log.read_text(encoding="utf-8").splitlines()
    directory = up.removeprefix("up ")
    assert down == f"down {directory}"
    assert not Path(directory).exists()
