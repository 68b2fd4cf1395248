"""A cluster for a test: started and ended by a `with`, made to fail, looked at."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from orch.errors import AdapterError
from orch.testing.cluster import launch
from orch.testing.cluster.client import Client, Row

BIN = "bin"
PATIENCE = 30.0
"""Seconds in which what is waited for has to happen."""


def install(directory: str, commands: Mapping[str, str], path: str = "") -> str:
    """Make programs of a face, by name: "module:function" of each, found below `path`. The folder, for PATH."""
    folder = os.path.join(directory, BIN)
    os.makedirs(folder, exist_ok=True)
    for name, target in commands.items():
        words = [sys.executable, "-I", "-S", os.path.abspath(launch.__file__), directory, path, target]
        program = os.path.join(folder, name)
        with open(program, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        os.chmod(program, 0o700)
    return folder


class Cluster:
    """`slots`: cores of each of the `nodes`. `settings`: as `set`. `temporary`: the directory goes, too, at the end.

    It is there once `start` returns. What it runs ends with it, and it ends with this process, however that ends.
    Everything but `start` and `close` takes no longer than a question to a socket.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        slots: int = 4,
        nodes: int = 1,
        temporary: bool = False,
        **settings: Any,
    ) -> None:
        self.directory = os.path.abspath(directory)
        self.bin = os.path.join(self.directory, BIN)
        self._size = ["--slots", str(slots), "--nodes", str(nodes), *(["--temporary"] if temporary else [])]
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._client = Client(self.directory, control=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start its process, and wait until it listens. Raises `AdapterError`."""
        argv = [sys.executable, "-P", "-m", "orch.testing.cluster", self.directory, *self._size]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.close()
            raise AdapterError(f"the cluster in {self.directory} does not start")
        self.set(**self._settings)

    def close(self) -> None:
        """End it and what it runs."""
        if self._process is not None:
            self._process.communicate()  # its stdin ends
            self._process = None

    @property
    def pid(self) -> int:
        """Of its guardian."""
        assert self._process is not None
        return self._process.pid

    def install(self, commands: Mapping[str, str], path: str = "") -> str:
        """Make programs of a face, as `install` does. Those of `faces.fake` are there already."""
        return install(self.directory, commands, path)

    # What goes wrong ----------------------------------------------------------------------------------------------

    def set(self, **changes: Any) -> None:
        """Change what it is, from now on: see `scheduler.Settings` for what there is."""
        self._client.call("set", changes=changes)

    def fault(self, what: str, job: int, index: int | None = None, **more: Any) -> int:
        """Have something happen to tasks, once: how many there were.

        "forget"   it is known no more, neither in the queue nor in the records; if it runs it goes on
        "preempt"  its place is taken away
        "oom"      it is killed as one that uses too much memory
        "copy"     it is started a second time, beside what runs
        "strange"  its state is said to be `word` from now on
        """
        return int(self._client.call("fault", what=what, tasks=[[job, index]], **more)["done"])

    def lose_node(self, name: str) -> None:
        """A node is gone, with all that runs there."""
        self._client.call("node", name=name, up=False)

    def restore_node(self, name: str) -> None:
        """It is there again."""
        self._client.call("node", name=name, up=True)

    def reset(self) -> None:
        """As new, for the next test: nothing runs or is known, all nodes are up, no fault is on."""
        self._client.call("reset")
        self.set(**self._settings)

    # What there is ------------------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """Speaks to it whatever faults are on, and is not counted."""
        return self._client

    def counts(self) -> dict[str, int]:
        """How often programs have asked: by what they asked for, "submit", "jobs" …"""
        found: dict[str, int] = self._client.call("counts")["counts"]
        return found

    def rows(self) -> list[Row]:
        """All tasks but those that were forgotten, in the order of their submission."""
        return [Row(fields) for fields in self._client.call("all")["rows"]]

    def wait(self, wanted: Callable[[list[Row]], object], patience: float = PATIENCE) -> list[Row]:
        """Look again and again until the rows are as wanted. Raises `AssertionError`. Not for inside a loop."""
        until = time.monotonic() + patience
        while not wanted(rows := self.rows()):
            if time.monotonic() > until:
                raise AssertionError(f"in {patience:g} s this has not come to be; there is: {rows}")
            time.sleep(0.005)
        return rows
