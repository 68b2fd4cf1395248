"""Benchmarks that nobody runs every day still start, and their results fit into one table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent / "benchmarks"


def python(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(HERE.glob("bench_*.py")), ids=lambda script: script.stem)
def test_each_has_a_command_line(script: Path) -> None:
    assert "--json" in python(script, "--help")


def test_all_become_one_table(tmp_path: Path) -> None:
    for name in ("__main__.py", "report.py"):
        (tmp_path / name).write_text((HERE / name).read_text(encoding="utf-8"), encoding="utf-8")
    rows = [{"name": "of rows", "value": 1234.5, "unit": "s", "goal": "<= 1", "extra": 0}]
    (tmp_path / "bench_a.py").write_text(f"print({json.dumps(json.dumps(rows))})")
    (tmp_path / "bench_b.py").write_text('print(\'{"numbers": 0.12345, "text": "ignored"}\')')
    what = {"what": "append", "per_second": 10, "floor": 20, "of_floor": 0.5}
    (tmp_path / "bench_c.py").write_text(f"print({json.dumps(json.dumps(what))}, 2 * chr(10))")
    (tmp_path / "bench_d.py").write_text("raise SystemExit(1)")
    table = python(tmp_path, "a", "b", "c").splitlines()
    assert [line.split() for line in table] == [
        ["benchmark", "result", "goal"],
        ["of", "rows", "1,234", "s", "<=", "1"],
        ["b:", "numbers", "0.123"],
        ["append", "10", "per_second", "floor", "20,", "of_floor", "0.5"],
    ]
    found = json.loads(python(tmp_path, "--json", "bench_b"))
    assert found == [{"name": "b: numbers", "value": 0.12345, "unit": "", "goal": "", "note": ""}]
    failed = subprocess.run([sys.executable, tmp_path], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "bench_d failed with exit code 1" in failed.stderr
    assert "1,234" in failed.stdout  # the others are shown all the same


def test_one_that_is_not_there() -> None:
    done = subprocess.run([sys.executable, HERE, "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no benchmark 'nosuch': there are agent, chain, " in done.stderr
