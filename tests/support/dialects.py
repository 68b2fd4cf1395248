"""For tests of dialects: orders, answers made by hand, and the answers of programs."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from orch.adapters.batch.dialect import Answer, Command, Order
from orch.testing.cluster.control import Cluster


def order(**changes: Any) -> Order:
    """An order for one task that asks for nothing."""
    usual = {"name": "o-1", "label": "a job", "size": 1, "script": "/store/1.sh", "log": "/store/1.{index}.log"}
    return Order(**{**usual, **changes})


def answer(out: str = "", err: str = "", code: int = 0, argv: list[str] | None = None) -> Answer:
    """What a program might have said."""
    return Answer(Command(argv or ["program"]), code, out, err)


def call(cluster: Cluster, command: Command) -> Answer:
    """Call a command of the face that is installed in a cluster."""
    changes = {"PATH": f"{cluster.bin}:{os.environ['PATH']}", **command.env}
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    done = subprocess.run(
        command.argv, input=command.stdin, env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    return Answer(command, done.returncode, done.stdout, done.stderr)
