"""An admission of the agent, and runs that ask it for room: for tests without processes."""

from __future__ import annotations

from typing import Any

from orch.adapters.contract import RunInfo
from orch.agent.admission import Admission
from orch.agent.devices import Device
from orch.agent.model import Run, Shape, Task
from orch.agent.totals import Totals
from orch.attempt import Attempt
from orch.bus.events import EMPTY, Resources

GPUS = (
    Device("gpu", "0", "nvidia-tesla-k80"),
    Device("gpu", "1", "nvidia-tesla-k80"),
    Device("gpu", "2", "nvidia-a100"),
)


class Desk:
    """An admission, and runs that ask for things."""

    def __init__(self, cores: float = 4, memory: int = 100, disk: int = 100, devices: tuple[Device, ...] = ()) -> None:
        self.admission = Admission(Totals(cores, memory, disk, devices), lambda _run, _shape: False)
        self.runs: dict[str, Run] = {}
        self.clock = 0.0
        self.asked = 0

    def ask(self, run: str, cores: float = 1, *, priority: int = 0, pool: str = "", **wanted: Any) -> Task:
        self.clock += 1
        return self.ask_now(run, Resources(cores, **wanted), priority, pool)

    def ask_now(self, run: str, wanted: Resources, priority: int = 0, pool: str = "") -> Task:
        self.asked += 1
        attempt = Attempt(
            key=f"{run}.{self.asked}", run=run, job=1, attempt=1, epoch=1, kind="", name="", form="fork", body=EMPTY,
            resources=wanted, priority=priority,
        )  # fmt: skip
        shape = Shape(wanted.cores, wanted.memory, wanted.disk, pool, wanted.accelerators)
        task = Task(attempt, self.runs.setdefault(run, Run(run)), shape, queued_at=self.clock)
        self.admission.add(task)
        return task

    def limit(self, run: str, **limits: Any) -> None:
        self.runs.setdefault(run, Run(run)).info = RunInfo(run=run, epoch=1, store="", environment={}, **limits)

    def let_in(self, now: float | None = None) -> list[Task]:
        found = []
        while (task := self.admission.next(self.clock if now is None else now)) is not None:
            found.append(task)
        return found

    def release(self, *tasks: Task) -> None:
        for task in tasks:
            self.admission.release(task)
