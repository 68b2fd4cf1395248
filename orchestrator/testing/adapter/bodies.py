"""What the kit's Python attempts do. Workers import this module, on whatever host."""

from __future__ import annotations

import os
import time
from typing import Any

from orch.work.context import context
from orch.work.services import serve


def note(path: str) -> None:
    """Say that it ran: a line more in a file. Durable, and seen by others on a shared file system."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, b".\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(ran: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Gives back what it was given, and what it sees."""
    note(ran)
    context().annotate("colour", "grün")
    return {"args": args, "kwargs": kwargs, "environment": dict(os.environ)}


def write_file(ran: str, text: str) -> Any:
    """A file of the run, with this in it."""
    note(ran)
    path = context().scratch / "a file, ü.txt"
    path.write_text(text, encoding="utf-8")
    return context().write_file(path)


def much(ran: str, size: int) -> bytes:
    """So many bytes."""
    note(ran)
    return bytes(size)


def eat(ran: str, size: int) -> None:
    """Have memory, and keep it."""
    note(ran)
    block = bytearray(size)
    for at in range(0, size, 4096):
        block[at] = 1
    time.sleep(3600)


class Door:
    """A service that can be asked for its name."""

    def __init__(self, said: str) -> None:
        self.said = said

    def start(self) -> dict[str, str]:
        """What those get who need it."""
        return {"name": "ü"}

    def check(self) -> None:
        """It is well."""

    def stop(self) -> None:
        """Say that it was asked to."""
        note(self.said)


def door(ran: str, said: str) -> None:
    """The service's attempt."""
    note(ran)
    serve(Door(said), 3600)
