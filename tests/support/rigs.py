"""Rigs of the kit for batch systems that are scripted: an adapter's commands are a face of a small cluster."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orch.adapters.batch import board
from orch.adapters.contract import Adapter
from orch.adapters.registry import make_adapter
from orch.testing.adapter import Rig
from orch.testing.cluster.control import Cluster


@contextlib.contextmanager
def faced(directory: Path, commands: Mapping[str, str], **settings: Any) -> Iterator[Cluster]:
    """A cluster with a face, for all tests of a module: its commands stand first on PATH meanwhile.

    Files are not as late here as on file servers, so what ended without an outcome is not waited for as long.
    """
    with Cluster(directory, slots=4, nodes=2, **settings) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "PATIENCE", 1.0)
        patch.setenv("PATH", cluster.install(commands), prepend=os.pathsep)
        yield cluster


class FaceRig(Rig):
    """`name`: of the adapter. The cluster's folder of commands has to be on PATH (`faced`).

    `task`, to be changed where it is wrong: the cluster's numbers in what the batch system calls a task.
    """

    many = 20

    def __init__(self, root: Path, name: str, cluster: Cluster) -> None:
        super().__init__(root)
        self._name = name
        self.cluster = cluster
        self.options = {
            "batch-poll-interval": "0.2s",
            "batch-missing-after": "1s",
            "batch-call-timeout": "2s",
            "batch-probe": "false",
        }

    def adapter(self) -> Adapter:
        return make_adapter(self._name)

    def task(self, external: str) -> tuple[int, int]:
        job, index = re.fullmatch(r"(\d+)(?:\[(\d+)\])?", external).groups()  # type: ignore[union-attr]
        return int(job), int(index or 0)

    def left(self) -> list[str]:
        return [repr(row) for row in self.cluster.rows() if not row.ended]  # some faults change the state

    def cancel_outside(self, external: str) -> None:
        self.cluster.client.cancel([self.task(external)])

    def forget(self, external: str) -> None:
        self.cluster.fault("forget", *self.task(external))

    def down(self, *, down: bool) -> None:
        self.cluster.set(down=down)

    def slow(self, seconds: float) -> None:
        self.cluster.set(slow=seconds)

    def nonsense(self, text: str) -> None:
        self.cluster.set(nonsense=text)

    def strange(self, external: str, word: str) -> None:
        self.cluster.fault("strange", *self.task(external), word=word)

    def twice(self, *, twice: bool) -> None:
        self.cluster.set(twice=twice)

    def lose_answer(self, how: str) -> None:
        self.cluster.set(lose_next=how)

    def refuse(self, text: str) -> None:
        self.cluster.set(refuse_next=text)

    def hold(self, *, hold: bool) -> None:
        self.cluster.set(paused=hold)

    def lose_node(self, external: str, pid: int) -> None:
        [host] = {row.host for row in self.cluster.rows() if (row.job, row.index) == self.task(external)}
        self.cluster.lose_node(host)

    def preempt(self, external: str) -> None:
        self.cluster.fault("preempt", *self.task(external))

    def start_again(self, external: str) -> None:
        self.cluster.fault("copy", *self.task(external))
