"""A real PostgreSQL server as a service: `examples/database.py`, whole, and with its leader killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anyio
import pytest
from support.command import log_directory, orch, running, tagged, until

from orch.bus.events import Serving
from orch.bus.reader import read

FLOW = Path(__file__).parent.parent / "examples" / "database.py"

pytestmark = pytest.mark.skipif(
    not shutil.which("postgres") and not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")),
    reason="a PostgreSQL server is not installed here (Debian: apt install postgresql)",
)


@pytest.fixture(autouse=True)
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the environment of all that a test starts, the server's processes too."""
    monkeypatch.setenv("ORCH_TEST_MARK", str(tmp_path))
    monkeypatch.setenv("ORCH_AGENT_LINGER", "0.2")
    return str(tmp_path)


async def until_gone(mark: str) -> None:
    """No process of the run is left."""
    with anyio.fail_after(30):
        while tagged(mark):
            await anyio.sleep(0.02)


def words(place: Path) -> list[str]:
    """The command line."""
    return ["run", "--quiet", "--run-id", "r", "--store", str(place / "s"), str(FLOW), "--numbers", "1000"]


ANSWER = {"numbers": 1000, "total": 500500, "squares": 31}


async def test_three_jobs_use_a_database_server(tmp_path: Path, mark: str) -> None:
    done = orch(*words(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ANSWER
    said = orch("logs", "r", "1", "--store", tmp_path / "s", cwd=tmp_path).stdout
    assert said.index("server started") < said.index("server stopped")
    await until_gone(mark)


async def test_the_server_outlives_its_leader(tmp_path: Path, mark: str) -> None:
    log = log_directory(tmp_path / "s", "r")
    with running(*words(tmp_path), cwd=tmp_path) as process:
        seen = await until(log, lambda event: isinstance(event, Serving))
        process.kill()
        process.wait()
    done = orch("replay", "r", "--restart", "--quiet", "--store", tmp_path / "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ANSWER
    assert [event for event in read(log) if isinstance(event, Serving)] == [seen[-1]]
    await until_gone(mark)
