"""A disk that is full: the leader stops, says so, and the log replays.

The disk is a limit on the size of files (setrlimit(2), RLIMIT_FSIZE): the log cannot grow beyond it.
"""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

from support.command import ORCH, orch, status

WIDE = Path(__file__).parent / "flows" / "counted.py"
LIMIT = 150_000


def no_more_than() -> None:
    """In the child: no file may grow beyond the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


def test_a_full_disk_stops_the_leader_and_the_run_can_be_carried_on(tmp_path: Path) -> None:
    store, counts = tmp_path / "s", tmp_path / "counts"
    counts.mkdir()
    options = ["--where", str(counts), "--jobs", "1", "--seconds", "0"]
    first = orch("run", "--quiet", "--store", store, WIDE, *options, cwd=tmp_path)  # the agent has no limit
    assert first.returncode == 0, first.stderr
    options[3] = "200"
    own = ["run", "--quiet", "--run-id", "r", "--store", str(store), str(WIDE), *options]
    full = subprocess.run(
        [*ORCH, *own],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=no_more_than,
    )
    assert full.returncode == 6, full.stderr
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert full.stdout == ""
    before = status(store, "r")
    assert before["state"] not in {"succeeded", "failed"}
    done = orch("replay", "r", "--restart", "--quiet", "--store", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == sum(range(200))
    runs = {int(path.name): len(path.read_text().splitlines()) for path in counts.iterdir()}
    assert {number: times for number, times in runs.items() if number} == dict.fromkeys(range(1, 200), 1)
