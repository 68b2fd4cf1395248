"""What the agent knows of runs and attempts."""

from __future__ import annotations

import dataclasses
import enum
import socket
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from orch.adapters.contract import RunInfo
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bus.events import Accelerator, JobId, Usage

if TYPE_CHECKING:
    from orch.agent.captures import Capture
    from orch.agent.connections import Connection
    from orch.agent.devices import Device
    from orch.agent.ports import Timer
    from orch.agent.rooms import Room
    from orch.agent.templates import Template
    from orch.agent.workers import Hired


UNUSED = Usage()


class Phase(enum.Enum):
    """Where an attempt stands. In tuples, not in sets: the hash of an enum's member is computed in Python."""

    LINKED = 0  # waits for the one in whose place it is to run
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
    accelerators: tuple[Accelerator, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Line:
    """Attempts in one line are let in one after another. `walltime`: seconds that each lasts at most; 0: not known.

    Made by `Run.line`, once for all that are alike, and gone with the last of them.
    """

    shape: Shape
    priority: int = 0
    walltime: float = 0.0


@dataclasses.dataclass(eq=False, slots=True)
class Task:
    """One attempt in the agent's hands. Times are monotonic seconds.

    `line`     where it waits for resources
    `place`    the template, or the warm worker, that it runs in
    `devices`  the accelerators that are reserved for it
    `linked`   another one runs in its place afterwards
    `up`       of a service: what it said when it was up; `signal`: what is closed for it to stop, `dismissed`: it was
               told to
    `farewell` it was asked to end by itself before it is killed
    `deferring` what it has deferred to its end is being done, or was; `epilogue`: what that prints, of a pooled one
    `kill`     why it has to end, once that is decided
    `verdict`  how its process or body ended: reason, exit code, signal, message, of a Python body its value too
    `outcome`  what the leader gets: the verdict with output and usage
    """

    attempt: Attempt
    run: Run
    shape: Shape
    key: str = dataclasses.field(init=False)
    line: Line = dataclasses.field(init=False)
    phase: Phase = Phase.QUEUED
    queued_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    since: str = ""
    pid: int = 0
    reserved: bool = False
    devices: tuple[Device, ...] = ()
    linked: bool = False
    up: Note | None = None
    signal: socket.socket | None = None
    dismissed: bool = False
    farewell: bool = False
    deferring: bool = False
    epilogue: Capture | None = None
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
    heard: Connection | None = None  # the last that was told of its end

    def __post_init__(self) -> None:
        self.key = self.attempt.key
        self.line = self.run.line(self.shape, self.attempt.priority, self.attempt.resources.walltime)

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
    queues: dict[Line, deque[Task]] = dataclasses.field(default_factory=dict)
    waiting: int = 0
    cores: float = 0.0  # in use
    memory: int = 0
    disk: int = 0
    suspects: set[JobId] = dataclasses.field(default_factory=set)  # may have killed the template that they ran in
    tasks: dict[str, Task] = dataclasses.field(default_factory=dict)
    kept: dict[str, Outcome] = dataclasses.field(default_factory=dict)  # outcomes from an earlier agent's journal

    template: str = ""  # the part of a template's key that the leader's environment decides
    lines: WeakValueDictionary[tuple[Shape, int, float], Line] = dataclasses.field(default_factory=WeakValueDictionary)

    def line(self, shape: Shape, priority: int, walltime: float) -> Line:
        """The line for attempts like this."""
        found = self.lines.get((shape, priority, walltime))
        if found is None:
            found = self.lines[shape, priority, walltime] = Line(shape, priority, walltime)
        return found

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
    """What attempts have in common that can be forked from the same template. A suspect has one of its own."""
    own = f"\0{attempt.job}" if attempt.job in run.suspects else ""
    return f"{attempt.bundle}\0{run.template}\0{attempt.cwd}{own}"
