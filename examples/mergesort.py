"""Sort the lines of a text file by recursive merging, the graph growing while the run goes on.

orch run --out sorted examples/mergesort.py --path big.txt

Nobody knows beforehand how many jobs it takes: a job that finds its piece too long splits it in two, adds the jobs
that sort the halves and merge them, and returns the last of these in its own place. Lines are compared byte by byte,
as `LC_ALL=C sort` does.
"""

from __future__ import annotations

import heapq
import itertools
import random
from pathlib import Path
from typing import Any

import orch


@orch.job
def make(lines: int) -> orch.FileRef:
    """Some lines in no order; the same ones each time."""
    chance = random.Random(lines)
    path = orch.context().scratch / "unsorted.txt"
    with path.open("w", encoding="ascii") as file:
        file.writelines(f"{chance.getrandbits(64):016x}\n" for _ in range(lines))
    return orch.context().write_file(path)


@orch.job(memory="512 MiB")
def sort(piece: orch.FileRef, lines_per_job: int) -> Any:
    """The lines of `piece` in order: at once if they are few, else by way of more jobs."""
    context = orch.context()
    path = context.read_file(piece)
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    if lines <= lines_per_job:
        with path.open("rb") as file:
            return save(sorted(whole(line) for line in file))
    context.annotate("lines", lines)
    with path.open("rb") as file:
        halves = [save(itertools.islice(file, lines // 2), "a.txt"), save(file, "b.txt")]
    return merge([sort(half, lines_per_job) for half in halves])


@orch.job(memory="256 MiB")
def merge(pieces: list[orch.FileRef]) -> orch.FileRef:
    """One sorted file from several; only a line of each is in memory at a time."""
    paths = [orch.context().read_file(piece) for piece in pieces]
    files = [path.open("rb") for path in paths]
    try:
        return save(heapq.merge(*files))
    finally:
        for file in files:
            file.close()


@orch.workflow
def main(path: str = "", lines: int = 100_000, lines_per_job: int = 10_000) -> Any:
    """Sort the file PATH, or LINES random lines if none is given."""
    unsorted = orch.import_file(path) if path else make(lines)
    return sort(unsorted, max(1, lines_per_job))


def save(lines: Any, name: str = "sorted.txt") -> orch.FileRef:
    """Write lines to a file of the store."""
    path: Path = orch.context().scratch / name
    with path.open("wb") as file:
        file.writelines(lines)
    return orch.context().write_file(path)


def whole(line: bytes) -> bytes:
    """The line with its end, which the last line of a file may lack."""
    return line if line.endswith(b"\n") else line + b"\n"
