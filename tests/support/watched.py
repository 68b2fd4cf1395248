"""A place for a run whose bodies write down what they do, and wait until they are let go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import orch

Settings: TypeAlias = dict[str, Any]


class Place:
    """Where a test's run is, what its bodies say, and the pipe that holds its users up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "s"
        self.said = path / "said"
        self.pipe = path / "pipe"
        os.mkfifo(self.pipe)
        self._end = os.open(self.pipe, os.O_RDWR)  # nobody waits to open it

    def let_go(self) -> None:
        """One of those who wait goes on."""
        os.write(self._end, b".")

    def lines(self) -> list[str]:
        """What was written."""
        return self.said.read_text(encoding="utf-8").splitlines()

    def run(self, workflow: Any, settings: Settings | None = None, **options: Any) -> Any:
        """The value of a workflow."""
        return orch.run(workflow, store=self.store, settings=settings, said=str(self.said), **options)

    def fail(self, workflow: Any, settings: Settings | None = None, **options: Any) -> orch.RunFailed:
        """How a workflow fails."""
        with pytest.raises(orch.RunFailed) as raised:
            self.run(workflow, settings, **options)
        return raised.value

    def states(self) -> dict[str, str]:
        """Of the jobs of the newest run, by name; by kind, where they have no name of their own."""
        jobs = orch.replay(self.store).values()
        return {job.kind if "(" in job.name else job.name: job.state for job in jobs}

    def close(self) -> None:
        """The test is over."""
        os.close(self._end)
