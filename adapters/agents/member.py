"""One host in a session: whether it is there, what it was given, what is left on it."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import math
from collections import deque

from orch.adapters.agents.host import Host, HostSession
from orch.adapters.agents.rooms import Room
from orch.adapters.contract import Capacity
from orch.adapters.local import AHEAD
from orch.attempt import Attempt
from orch.bus.events import Resources

_LEAST = 1
"""Attempts that are handed over ahead in any case; else as many as have ended in the last second."""


class Standing(enum.Enum):
    """How a host stands."""

    NEW = "it was not reached yet"
    UP = "it is there"
    CUT = "the connection to it is cut"
    LOST = "it is away for so long that its attempts were given up"
    REFUSED = "it refuses"


@dataclasses.dataclass(eq=False, slots=True)
class Held:
    """An attempt, until its outcome is acknowledged.

    `attempt`: None where an earlier leader has handed it over; then nobody knows what it asks for, and a core is taken
    `handed`  the host was told of it; `seen`: it has said that it has it; `over`: its end was told
    `told`    while it was in the line, the leader was told that it is queued
    `began`   it runs there; `moving`: number of the question that asks for it back, to have it run elsewhere
    `find`    number of the question that asked the host about it; `ask`: of the leader's that is not answered yet
    """

    key: str
    order: int
    attempt: Attempt | None = None
    member: Member | None = None
    handed: bool = False
    seen: bool = False
    began: bool = False
    over: bool = False
    told: bool = False
    cancelled: bool = False
    stopped: bool = False
    moving: int = 0
    find: int = 0
    ask: int = 0

    @property
    def idles(self) -> bool:
        """Does it wait on its host, and could it wait elsewhere?"""
        return self.seen and self.attempt is not None and not (self.began or self.over or self.moving or self.cancelled)

    @property
    def wanted(self) -> Resources:
        """What it asks for, as far as that is known."""
        return self.attempt.resources if self.attempt is not None else Resources()

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in the line."""
        return -(self.attempt.priority if self.attempt is not None else 0), self.order


@dataclasses.dataclass(eq=False)
class Member:
    """A host. `session` while it is up; `held` is what it was given; `since` when it went away (the loop's clock).

    `given_up`: it is away for so long that what it had was lost; `until`: when it ends (the loop's clock)
    """

    host: Host
    standing: Standing = Standing.NEW
    session: HostSession | None = None
    capacity: Capacity | None = None
    trouble: str = ""
    since: float = 0.0
    held: dict[str, Held] = dataclasses.field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    tried: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    leaving: bool = False
    given_up: bool = False
    until: float = math.inf
    _ends: deque[float] = dataclasses.field(default_factory=deque)

    @property
    def name(self) -> str:
        """The host's."""
        return self.host.name

    @property
    def counts(self) -> bool:
        """Is it part of what there is? A cut host is."""
        return self.capacity is not None and self.standing in (Standing.UP, Standing.CUT) and not self.leaving

    def room(self, now: float) -> Room:
        """What is left on it."""
        assert self.capacity is not None
        room = Room(self.capacity, self._ahead(now), left=self.until - now)
        for held in self.held.values():
            if not held.over:
                room.use(held.wanted)
        return room

    def ended(self, now: float) -> None:
        """An attempt has ended on it."""
        self._ends.append(now)

    def _ahead(self, now: float) -> int:
        """How many attempts may be there beyond those that fit, less those that are."""
        while self._ends and self._ends[0] < now - 1.0:
            self._ends.popleft()
        assert self.capacity is not None
        cores, beyond = 0.0, 0
        for held in self.held.values():
            if not held.over:
                cores += held.wanted.cores
                beyond += cores > self.capacity.cores
        return max(_LEAST, min(AHEAD, len(self._ends))) - beyond
