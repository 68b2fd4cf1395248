"""What a cluster knows of its tasks and nodes, and the processes of a task: started, measured, signalled, ended.

The cluster's process adopts what is orphaned (`orch.agent.linux.adopt_orphans`), so all that descends from a task's
first process is found below that, or among the cluster's own children, where its mark says whose it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from typing import Any

from orch.agent.processes import anonymous_memory, own_children, tree

MARK = "ORCH_CLUSTER_TASK"
QUEUED, HELD, RUNNING, ENDING, OVER = "queued", "held", "running", "ending", "over"


@dataclasses.dataclass
class Node:
    """A node; all are this host. `up`: False once it was lost."""

    name: str
    cores: int
    memory: int
    up: bool = True


@dataclasses.dataclass
class Task:
    """One task. `order` is what was submitted: the fields of `Client.submit`; the rest is as in `client.Row`."""

    job: int
    index: int
    order: dict[str, Any]
    submitted: float
    state: str = QUEUED
    why: str = ""
    node: Node | None = None
    pid: int = 0
    extra_pids: list[int] = dataclasses.field(default_factory=list)  # of copies that a fault has started
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""
    code: int | None = None
    signal: int = 0
    used: int = 0
    restarts: int = 0
    strange: str = ""
    ending: str = ""  # the reason for which it is being ended
    again: bool = False  # it is queued again, once it has ended
    kill_at: float = 0.0
    forgotten: bool = False

    @property
    def live(self) -> bool:
        """Does it have processes?"""
        return self.state in (RUNNING, ENDING)

    @property
    def mark(self) -> str:
        """In the environment of its processes."""
        return f"{os.getpid()}.{self.job}.{self.index}"

    def named(self, template: str) -> str:
        """A name in which the placeholders are replaced."""
        numbers = {"{job}": self.job, "{index}": self.index, "{size}": len(self.order["tasks"])}
        for placeholder, number in numbers.items():
            template = template.replace(placeholder, str(number))
        return template

    def row(self) -> dict[str, Any]:
        """For answers."""
        kept = ("name", "label", "cores", "memory", "walltime", "priority", "queue", "extra")
        own = ("job", "index", "why", "pid", "submitted", "started", "ended", "reason", "code", "signal", "used")
        return {
            **{name: self.order[name] for name in kept},
            **{name: getattr(self, name) for name in own},
            "state": self.strange or self.state,
            "host": self.node.name if self.node else "",
            "size": len(self.order["tasks"]),
            "script": self.order["argv"][-1],
            "out": self.named(self.order["out"]),
            "err": self.named(self.order["err"]),
            "restarts": self.restarts,
        }

    # Processes --------------------------------------------------------------------------------------------------

    def spawn(self) -> int:
        """Start its program in a session of its own; the pid. Raises `OSError` where files or program are not there."""
        order = self.order
        variables = {name: self.named(value) for name, value in order["variables"].items()}
        out, err = self.named(order["out"]), self.named(order["err"])
        with contextlib.ExitStack() as stack:
            stdin = stack.enter_context(open(order["stdin"] or os.devnull, "rb"))
            stdout = stack.enter_context(open(out or os.devnull, "ab"))
            stderr = stack.enter_context(open(err, "ab")) if err else stdout
            process = subprocess.Popen(
                order["argv"],
                cwd=order["cwd"],
                env={**order["env"], **variables, MARK: self.mark},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        process.returncode = 0  # it is waited for by pid, with all others
        return process.pid

    def processes(self) -> list[int]:
        """Of all, zombies too, the pids: what descends from its first process, and what became ours with its mark."""
        found = [pid for first in [self.pid, *self.extra_pids] if first for pid in tree(first)]
        for child in own_children():
            if child not in found and mark_of(child) == self.mark:
                found += tree(child)
        return found

    def send(self, number: int) -> None:
        """A signal to each of its processes."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def memory(self) -> int:
        """Bytes that it has in memory of its own, about."""
        return sum(anonymous_memory(pid) for pid in self.processes())


def mark_of(pid: int) -> str:
    """The mark of a process; empty: it has none."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            items = file.read().split(b"\0")
    except OSError:
        return ""
    prefix = f"{MARK}=".encode()
    return next((item[len(prefix) :].decode() for item in items if item.startswith(prefix)), "")


def first_signal(name: str) -> int:
    """The number of a signal, as "TERM"; 0: none."""
    return int(signal.Signals[f"SIG{name}"]) if name else 0
