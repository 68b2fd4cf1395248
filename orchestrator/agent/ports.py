"""What the agent's core needs of the machine that it is on, as ports: on a simulated one it runs just as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from orch.adapters.contract import RunInfo
from orch.agent.admission import Admission
from orch.agent.journal import Journal
from orch.agent.model import Task
from orch.agent.rooms import Room
from orch.attempt import Note, Outcome, Reason


class Timer(Protocol):
    """Something that will be done."""

    def cancel(self) -> None:
        """Do not do it."""


class Loop(Protocol):
    """Calls `Agent.turn` whenever something has happened, and runs timers."""

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do something later."""

    def stop(self) -> None:
        """Call nothing any more once this turn is over; then the agent leaves."""


class Listener(Protocol):
    """Who is told what attempts do."""

    def started(self, task: Task) -> None:
        """The attempt runs."""

    def noted(self, task: Task, note: Note) -> None:
        """It said something."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """It is over, and nothing of it is left running."""


class Execution(Protocol):
    """Runs attempts. What becomes of them it tells a `Listener`, during `start` or `sweep` or between turns."""

    @property
    def idle(self) -> bool:
        """Is nothing running, and nothing on its way?"""

    @property
    def catching_up(self) -> bool:
        """Is it still being done what attempts of an earlier agent have deferred to their end?"""

    def start(self, task: Task) -> None:
        """Start an attempt whose turn it is, and whose resources are reserved."""

    def stop(self, task: Task, reason: Reason, why: str) -> None:
        """End an attempt, for this reason, wherever it stands."""

    def dismiss(self, task: Task) -> None:
        """Tell a service to stop by itself, as soon as it is up."""

    def sweep(self) -> None:
        """End the attempts that have nothing left running."""

    def retire(self, now: float) -> None:
        """Let go of what was kept warm and is not needed any more. `now`: monotonic seconds."""

    def close(self) -> None:
        """Let go of everything; nothing runs any more."""


class Rooms(Protocol):
    """Work directories."""

    def room(self, runtime: str) -> Room:
        """The room in a runtime directory. Raises `OSError` if it cannot be used."""


class Leftovers(Protocol):
    """Processes that an earlier agent of this store and host has left."""

    def end_marked(self) -> list[int]:
        """End all that bear its mark; the pids of those that cannot be ended."""

    def end_started_about(self, pid: int, since: float) -> None:
        """End `pid` if it started in the seconds before `since` (seconds since the machine's start)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What an agent is made of.

    `host`, `pid`, `boot`  who it is: the host's name, its process, the machine's start
    `monotonic`            seconds, for what lasts
    `boottime`             seconds since the machine's start, as they stand in the journal
    `linger`               seconds for which it stays when nobody needs it
    `latest_epoch`         the highest epoch that has claimed a segment of a run's log
    `running`              called when an attempt begins to run
    `complain`             takes lines for the agent's log
    `store`                the only one that it serves, if not empty
    `store_is_there`       has it been neither moved nor deleted?
    `adapted`              what a leader says of its run, as it is to be here. Raises `OSError`, `ValueError`
    `own`                  the key that stands for the agent itself: to stop that service is to end the agent
    """

    host: str
    pid: int
    boot: str
    monotonic: Callable[[], float]
    boottime: Callable[[], float]
    linger: float
    loop: Loop
    rooms: Rooms
    execution: Execution
    admission: Admission
    journal: Journal
    leftovers: Leftovers
    latest_epoch: Callable[[str], int]
    running: Callable[[], None]
    complain: Callable[[str], None]
    store: str = ""
    store_is_there: Callable[[], bool] = lambda: True
    adapted: Callable[[RunInfo], RunInfo] = lambda info: info
    own: str = ""
