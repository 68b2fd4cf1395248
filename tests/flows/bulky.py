"""Jobs that need room: for a value in the store, or for a file in the scratch directory."""

import os
from pathlib import Path

import orch


def ran(where: str, name: str) -> None:
    """This body is at its end."""
    with Path(where, name).open("a") as file:
        file.write(f"{os.getpid()}\n")


@orch.job
def small(where: str) -> str:
    ran(where, "small")
    return "small"


@orch.job
def value(where: str, size: int) -> bytes:
    found = b"v" * size
    ran(where, "value")
    return found


@orch.job
def scratch(where: str, size: int) -> int:
    path = orch.context().scratch / "file"
    path.write_bytes(b"s" * size)
    ran(where, "scratch")
    return path.stat().st_size


@orch.job
def length(first: str, data: bytes, size: int) -> list[object]:
    return [first, len(data), size]


@orch.workflow
def main(where: str, value_size: int = 10, scratch_size: int = 10) -> list[object]:
    return length(small(where), value(where, value_size), scratch(where, scratch_size))
