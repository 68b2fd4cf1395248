"""What benchmarks have in common: rows of results, shown as a table or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Row:
    """One result. `goal` is what is aimed at, as text (">= 1500"); `note` says what was compared or how."""

    name: str
    value: float
    unit: str
    goal: str = ""
    note: str = ""


def show(rows: Iterable[Row]) -> str:
    """The rows as a table."""
    lines = [("benchmark", "result", "", "goal", "")]
    lines += [(row.name, number(row.value), row.unit, row.goal, row.note) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    aligned = [
        "  ".join(cell.rjust(width) if column == 1 else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    return "\n".join(line.rstrip() for line in aligned)


def number(value: float) -> str:
    """Three digits that matter, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(measure: Callable[[], Iterable[Row]], description: str | None) -> None:
    """The command line of one benchmark: measure, and print the rows."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print a JSON array of results")
    as_json = parser.parse_args().json
    rows = list(measure())
    print(json.dumps([dataclasses.asdict(row) for row in rows]) if as_json else show(rows))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory on a real disk, which /tmp need not be: $BENCH_DIR, else here."""
    with tempfile.TemporaryDirectory(
        prefix=".bench-", dir=os.environ.get("BENCH_DIR", "."), ignore_cleanup_errors=True
    ) as name:
        yield Path(name).resolve()
