"""Workflows to look inside: a breakpoint, and a chain that passes files on which nobody needs for long."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import orch

MIB = 1 << 20


def stopped(*_: Any) -> None:
    """What `breakpoint()` calls, by PYTHONBREAKPOINT: where a debugger would show the caller."""
    frame = sys._getframe(1)
    print(f"stopped in {frame.f_code.co_name} of process {os.getpid()}: {sorted(frame.f_locals)}")  # noqa: T201


@orch.job(cores=0.1)
def looked_at(word: str) -> str:
    length = len(word)
    breakpoint()  # noqa: T100 - that is what is tried
    return f"{word} {length}"


@orch.workflow
def breaks() -> Any:
    return looked_at("wombat")


@orch.job(cores=0.1)
def passes(where: str, number: int, size: int, before: orch.FileRef | None = None) -> orch.FileRef:
    """Makes a file of the one before it, and writes down how much the store holds."""
    context = orch.context()
    start = 0
    if before is not None:
        with context.open(before) as file:
            start = int.from_bytes(file.read(8), "little")
    path = context.scratch / "data"
    path.write_bytes((start + 1).to_bytes(8, "little") + os.urandom(size - 8))
    found = context.write_file(path, keep="successors")
    with open(f"{where}/{number}", "a", encoding="utf-8") as file:
        file.write(f"{held(Path(where).parent / 's')}\n")
    return found


def held(store: Path) -> int:
    """Bytes of the large files in a store."""
    total = 0
    for directory, _, names in os.walk(store):
        for name in names:
            try:
                found = os.stat(os.path.join(directory, name), follow_symlinks=False)
            except FileNotFoundError:
                continue  # just removed
            total += found.st_size if found.st_size >= MIB else 0
    return total


@orch.job(cores=0.1)
def counted(last: orch.FileRef) -> int:
    with orch.context().open(last) as file:
        return int.from_bytes(file.read(8), "little")


@orch.workflow
def chain(where: str, links: int = 100, size: int = MIB, isolation: str = "pool") -> Any:
    """The value is how many links there were."""
    how: dict[str, Any] = {"isolation": isolation}
    last: Any = None
    for number in range(links):
        last = passes.options(**how)(where, number, size, last)
    return counted.options(**how)(last)


@orch.workflow
def keeps_the_last(where: str) -> Any:
    """The value is the last file itself."""
    return passes(where, 1, MIB, passes(where, 0, MIB))
