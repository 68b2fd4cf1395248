"""What the agent knows of runs and attempts."""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from typing import TYPE_CHECKING

from orch.adapters.contract import RunInfo
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.events import Usage

if TYPE_CHECKING:
    from orch.agent.captures import Capture
    from orch.agent.connections import Connection
    from orch.agent.ports import Timer
    from orch.agent.rooms import Room
    from orch.agent.templates import Template
    from orch.agent.workers import Hired


UNUSED = Usage()


class Phase(enum.Enum):
    """Where an attempt stands."""

    QUEUED = 1  # waits for resources
    HANDED = 2  # behind another in a warm worker, or its process is being made
    RUNNING = 3
    ENDING = 4  # its process is over, but what it left running is not
    ENDED = 5  # there is an outcome


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Attempts of one shape are interchangeable when it comes to finding a place for them."""

    cores: float
    memory: int
    disk: int
    pool: str = ""  # the template, for attempts that share warm workers


@dataclasses.dataclass(eq=False, slots=True)
class Task:
    """One attempt in the agent's hands. Times are monotonic seconds.

    `place`    the template, or the warm worker, that it runs in
    `kill`     why it has to end, once that is decided
    `verdict`  how its process or body ended: reason, exit code, signal, message, of a Python body its value too
    `outcome`  what the leader gets: the verdict with output and usage
    """

    attempt: Attempt
    run: Run
    shape: Shape
    phase: Phase = Phase.QUEUED
    queued_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    since: str = ""
    pid: int = 0
    reserved: bool = False
    capture: Capture | None = None
    scratch: str = ""
    place: Template | Hired | None = None
    timer: Timer | None = None
    kill: Reason | None = None
    why: str = ""
    verdict: Outcome | None = None
    usage: Usage = UNUSED
    peak: int = 0
    left_behind: bool = False  # processes of it outlived its own
    outcome: Outcome | None = None
    unwanted: bool = False  # nobody will ask for its outcome

    @property
    def key(self) -> str:
        """The attempt's key."""
        return self.attempt.key

    @property
    def live(self) -> bool:
        """Is it not over yet?"""
        return self.phase is not Phase.ENDED


@dataclasses.dataclass(eq=False, slots=True)
class Run:
    """A run with attempts here, or with a leader connected."""

    name: str
    epoch: int = 0
    info: RunInfo | None = None
    connection: Connection | None = None
    room: Room | None = None
    queues: dict[Shape, deque[Task]] = dataclasses.field(default_factory=dict)
    waiting: int = 0
    cores: float = 0.0  # in use
    memory: int = 0
    tasks: dict[str, Task] = dataclasses.field(default_factory=dict)
    kept: dict[str, Outcome] = dataclasses.field(default_factory=dict)  # outcomes from an earlier agent's journal

    template: str = ""  # the part of a template's key that the leader's environment decides

    @property
    def space(self) -> Room:
        """Where its attempts are. A run has one as soon as it has had a leader."""
        assert self.room is not None
        return self.room

    @property
    def environment(self) -> dict[str, str]:
        """What the leader gave."""
        return self.info.environment if self.info is not None else {}


def template_key(run: Run, attempt: Attempt) -> str:
    """What attempts have in common that can be forked from the same template."""
    return f"{attempt.bundle}\0{run.template}\0{attempt.cwd}"
