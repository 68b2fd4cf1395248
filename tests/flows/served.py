"""Two services, one on top of the other, and a user of both that ends when there is a byte in a pipe."""

from __future__ import annotations

import os
from typing import Any

import orch


def write(said: str, line: str) -> None:
    """Add a line to a file that all write to."""
    with open(said, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def wait(pipe: str) -> None:
    """For one byte in a pipe."""
    with open(pipe, "rb", buffering=0) as file:
        file.read(1)


class Server(orch.Service):
    """Writes down when it starts and stops; its credentials are its name and its process."""

    def __init__(self, said: str, name: str, below: Any = None, **options: Any) -> None:
        super().__init__(**{"name": name, "cores": 0.1, **options})
        self.said = said
        self.called = name
        self.below = below

    def start(self) -> Any:
        write(self.said, f"+{self.called}")
        return {"name": self.called, "pid": os.getpid(), "below": self.below}

    def stop(self) -> None:
        write(self.said, f"-{self.called}")


@orch.job(cores=0.1)
def user(said: str, pipe: str, *credentials: Any) -> list[Any]:
    write(said, "+user")
    wait(pipe)
    write(said, "-user")
    return [each["pid"] for each in credentials]


@orch.workflow
def main(said: str, pipe: str, retries: int = 0) -> Any:
    context = orch.context()
    lower = Server(said, "lower", retries=retries)
    first = context.add_service(lower)
    second = context.add_service(Server(said, "upper", first["name"]), parent=lower)
    return user(said, pipe, first, second)
