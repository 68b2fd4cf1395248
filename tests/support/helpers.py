"""Services and deferred functions, for tests of the agent: templates import this module."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from orch.work.context import context
from orch.work.services import serve
from support.jobs import hang, touch


def write(path: str, text: str) -> None:
    """Add a line to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


class Recorded:
    """A service that writes down what is asked of it, and has a child as a database has."""

    def __init__(self, path: str, stuck: bool = False) -> None:
        self.path = path
        self.stuck = stuck

    def start(self) -> dict[str, str]:
        write(self.path, "start")
        self.child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        return {"address": "here"}

    def check(self) -> bool:
        return True

    def stop(self) -> None:
        write(self.path, "stop")
        if self.stuck:
            hang(f"{self.path}.stuck")
        self.child.kill()
        self.child.wait()


def service(path: str, stuck: bool = False) -> None:
    serve(Recorded(path, stuck), 3600)


def gated_service(path: str, said: str, held: str) -> None:
    """One whose start takes until there is something in the pipe `held`."""

    class Gated(Recorded):
        def start(self) -> dict[str, str]:
            touch(said)
            with open(held, "rb", buffering=0) as pipe:
                pipe.read(1)
            return super().start()

    serve(Gated(path), 3600)


def defers(path: str, said: str = "", how: str = "return") -> int:
    """Defer two calls, and end in one way or another."""
    context().defer(write, path, "one")
    context().defer(fail_after, path)
    context().defer(write, path, text="three")
    write(path, "body")
    if said:
        touch(said)
    if how == "hang":
        hang()
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "raise":
        raise ValueError("no")
    return 7


def fail_after(path: str) -> None:
    write(path, "two")
    raise RuntimeError("two failed")


def defers_something_slow(said: str, held: str, path: str) -> int:
    context().defer(wait_then_write, said, held, path)
    return 7


def wait_then_write(said: str, held: str, path: str) -> None:
    touch(said)
    with open(held, "rb", buffering=0) as pipe:
        pipe.read(1)
    write(path, "late")


def lines(path: Path) -> list[str]:
    """What was written."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def say_up_and_hang() -> None:
    """Print "up", and hang."""
    print("up", flush=True)  # noqa: T201 - what is looked for in its output
    hang()
