"""Run all benchmarks, or those that are named, and show one table: python benchmarks [--json] [NAME …]."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from report import Row, number, show

HERE = Path(__file__).parent


PATIENCE = 300
"""Seconds that a script may take."""


class Failed(Exception):
    """A benchmark that came to no result; says which and how."""


def results(script: Path) -> list[Row]:
    """What `script --json` measures. Raises `Failed`."""
    print(f"{script.stem} …", file=sys.stderr, flush=True)
    began = time.monotonic()
    command = [sys.executable, str(script), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"{script.stem} was not done after {PATIENCE} s") from None
    finally:  # interrupted, too: nothing that it has started stays, as far as it is of its group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise Failed(f"{script.stem} failed with exit code {process.returncode}")
    print(f"{script.stem}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    name = script.stem.removeprefix("bench_")
    return [row for line in out.splitlines() if line.strip() for row in rows_of(name, json.loads(line))]


def rows_of(name: str, measured: Any) -> Iterator[Row]:
    """Rows from what one line of JSON says.

    That is an array of objects, or one. An object has the fields of `Row`; or it is "what" was measured and numbers, of
    which the first is the result; or it is numbers by name.
    """
    if isinstance(measured, list):
        for one in measured:
            yield from rows_of(name, one)
        return
    numbers = {key: value for key, value in measured.items() if isinstance(value, int | float)}
    if "name" in measured and "value" in measured:
        known = {field.name for field in dataclasses.fields(Row)}
        yield Row(**{"unit": "", **{key: value for key, value in measured.items() if key in known}})
    elif "what" in measured:
        (unit, value), *others = numbers.items()
        yield Row(measured["what"], value, unit, note=", ".join(f"{key} {number(other)}" for key, other in others))
    else:
        yield from (Row(f"{name}: {key}", value, "") for key, value in numbers.items())


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
    known = {script.stem.removeprefix("bench_") for script in HERE.glob("bench_*.py")}
    if unknown := [name for name in options.names if name.removeprefix("bench_") not in known]:
        parser.error(f"there is no benchmark {unknown[0]!r}: there are {', '.join(sorted(known))}")
    rows: list[Row] = []
    failures: list[str] = []
    for script in chosen(options.names):
        try:
            rows += results(script)
        except Failed as failed:
            failures.append(str(failed))
    print(json.dumps([dataclasses.asdict(row) for row in rows]) if options.json else show(rows))
    load = os.getloadavg()[0]
    print(f"load at the end: {load:.1f}, on {len(os.sched_getaffinity(0))} cores", file=sys.stderr)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
