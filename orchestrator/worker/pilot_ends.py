"""How attempts in a pilot have ended, where its batch system may be the cause.

It may send its signals to all processes of the pilot's task, so that attempts die of one before the pilot has heard of
it. And what the kernel kills for want of memory is known from the task's control group only.
"""

from __future__ import annotations

import msgspec

from orch.agent.model import Task
from orch.agent.ports import Listener, Loop
from orch.attempt import Note, Outcome, Reason
from orch.worker import memory
from orch.worker.deputy import HOLD, may_be_a_signals


class Ends:
    """Stands between what runs attempts and the agent."""

    def __init__(self, loop: Loop, agent: Listener) -> None:
        self._loop = loop
        self._agent = agent
        self._doubtful: dict[str, tuple[Task, Outcome]] = {}
        self._kills = memory.kills()
        self._why = ""

    def started(self, task: Task) -> None:
        """The attempt runs."""
        self._agent.started(task)

    def noted(self, task: Task, note: Note) -> None:
        """It said something."""
        self._agent.noted(task, note)

    def finished(self, task: Task, outcome: Outcome) -> None:
        """It is over. If a signal may have been the cause, it is told a moment later: the pilot may have got it too."""
        outcome = self._explained(outcome)
        if not may_be_a_signals(outcome):
            self._agent.finished(task, outcome)
        elif self._why:
            self._lost(task, outcome)
        else:
            self._doubtful[task.key] = task, outcome
            self._loop.after(HOLD, lambda: self._tell(task.key))

    def warned(self, why: str) -> None:
        """The batch system has sent the pilot a signal."""
        self._why = why
        while self._doubtful:
            _, (task, outcome) = self._doubtful.popitem()
            self._lost(task, outcome)

    def _tell(self, key: str) -> None:
        if key in self._doubtful:
            self._agent.finished(*self._doubtful.pop(key))

    def _lost(self, task: Task, outcome: Outcome) -> None:
        lost = msgspec.structs.replace(outcome, reason=Reason.LOST, exit_code=None, signal=0, message=self._why)
        self._agent.finished(task, lost)

    def _explained(self, outcome: Outcome) -> Outcome:
        if outcome.reason is not Reason.FAILED or not may_be_a_signals(outcome):
            return outcome
        before, self._kills = self._kills, memory.kills()
        if self._kills <= before:
            return outcome
        why = "the kernel has killed a process of it: its pilot had no memory left"
        return msgspec.structs.replace(outcome, reason=Reason.MEMLIMIT, message=why)
