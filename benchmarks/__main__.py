"""Run all benchmarks, or those that are named, and show one table: python benchmarks [--json] [NAME …]."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from report import Row, show

HERE = Path(__file__).parent


def results(script: Path) -> list[Row]:
    """What `script --json` measures. Raises `SystemExit` where it fails."""
    print(f"{script.stem} …", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(script), "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script.stem} failed with exit code {done.returncode}")
    return list(rows_of(script.stem.removeprefix("bench_"), json.loads(done.stdout)))


def rows_of(name: str, measured: Any) -> Iterator[Row]:
    """Rows from an array of objects with fields of `Row`, or from an object of numbers by name."""
    if isinstance(measured, dict):
        numbers = {key: value for key, value in measured.items() if isinstance(value, int | float)}
        yield from (Row(f"{name}: {key}", value, "") for key, value in numbers.items())
        return
    known = {field.name for field in dataclasses.fields(Row)}
    for row in measured:
        yield Row(**{"unit": "", **{key: value for key, value in row.items() if key in known}})


def chosen(names: list[str]) -> Iterator[Path]:
    """The scripts, each in a process of its own so that none warms or burdens the next."""
    for script in sorted(HERE.glob("bench_*.py")):
        if not names or script.stem in names or script.stem.removeprefix("bench_") in names:
            yield script


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON array of results")
    parser.add_argument("names", nargs="*", metavar="NAME", help="log, startup, local …")
    options = parser.parse_args()
    rows = [row for script in chosen(options.names) for row in results(script)]
    print(json.dumps([dataclasses.asdict(row) for row in rows]) if options.json else show(rows))


if __name__ == "__main__":
    main()
