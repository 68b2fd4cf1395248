"""A look at running attempts now and then: their memory, and the size of what they print.

Memory is what an attempt's processes have to themselves. Resident anonymous memory is cheap to read and never less than
that; only where it is beyond the limit, the exact number is asked for (a fork shares its template's pages). A look that
comes every `TICK` seconds misses shorter peaks. Where cgroups of version 2 can be written, their events could tell
without looking: `over_limit` is the place for that.
"""

from __future__ import annotations

import time

from orch.agent import processes
from orch.agent.execution import Execution
from orch.agent.loop import Loop
from orch.agent.model import Phase, Task
from orch.agent.workers import Hired
from orch.attempt import Reason
from orch.sizes import format_size

TICK = 0.12
_MOST_TIME = 0.05
"""The part of its time that an agent may spend on looking."""


class Monitor:
    """Looks while something runs."""

    def __init__(self, loop: Loop, execution: Execution) -> None:
        self._loop = loop
        self._execution = execution
        self._on = False

    def wake(self) -> None:
        """Something runs."""
        if not self._on:
            self._on = True
            self._loop.after(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        running = self._execution.running
        self._execution.relieve(now)
        for task in running:
            if task.phase is Phase.RUNNING:
                self._look(task, now)
        if running:
            spent = time.monotonic() - now
            self._loop.after(max(TICK, spent / _MOST_TIME), self._tick)
        else:
            self._on = False

    def _look(self, task: Task, now: float) -> None:
        capture = task.place.capture if isinstance(task.place, Hired) else task.capture
        if capture is not None:
            try:
                capture.bound()
            except OSError as error:
                self._execution.stop(task, Reason.ERROR, f"its output cannot be bounded: {error}")
        if now - task.started_at >= TICK / 2:
            self._weigh(task)

    def _weigh(self, task: Task) -> None:
        pids = self._execution.pids_of(task)
        used = sum(processes.anonymous_memory(pid) for pid in pids)
        limit = task.attempt.resources.memory
        if limit and used > limit:
            used = over_limit(pids)
            if used > limit:
                self._execution.stop(
                    task, Reason.MEMLIMIT, f"used {format_size(used)} of memory, {format_size(limit)} were asked for"
                )
        elif task.place is not None:  # what is its template's is not its own
            template = task.place.template if isinstance(task.place, Hired) else task.place
            used = max(0, used - template.baseline)
        task.peak = max(task.peak, used)


def over_limit(pids: list[int]) -> int:
    """The private memory of processes whose anonymous memory is beyond their limit."""
    return sum(processes.private_memory(pid) for pid in pids)
