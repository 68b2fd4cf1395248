"""Time and chance: whatever happens, happens here, one step after the other, in an order that the seed decides."""

from __future__ import annotations

import datetime as dt
import heapq
import random
from collections.abc import Callable
from typing import Protocol

_START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

HASTE = 0.1
"""Chance that time goes on although somebody could go on now: processes are slow, too."""

LAG = 0.2
"""Seconds by which it goes on then, at most."""


class Actor(Protocol):
    """Somebody who goes on in steps."""

    @property
    def ready(self) -> bool:
        """Is there a step to take now?"""
        ...

    def step(self) -> None:
        """Take it."""
        ...


class World:
    """Virtual time and seeded chance. `now`: seconds since the beginning; `steps`: taken so far."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.actors: list[Actor] = []
        self.lines: list[str] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + max(seconds, 0.0), self._entries, action))

    def soon(self, most: float, action: Callable[[], None]) -> None:
        """Do something within `most` seconds."""
        self.later(self.chance.uniform(0.0, most), action)

    def likely(self, chance: float) -> bool:
        """Does something of this probability happen?"""
        return chance > 0 and self.chance.random() < chance

    def clock(self, offset: float = 0.0) -> str:
        """The time as events have it, on a host whose clock is wrong by so many seconds."""
        return (_START + dt.timedelta(seconds=self.now + offset)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def say(self, who: str, what: str) -> None:
        """A line of the transcript."""
        self.lines.append(f"{self.now:10.4f} {self.steps:6} {who:12} {what}")

    def step(self) -> bool:
        """Let one thing happen; False if nothing ever will."""
        self.steps += 1
        ready = [actor for actor in self.actors if actor.ready]
        hasty = self._agenda and self._agenda[0][0] < self.now + LAG and self.likely(HASTE)
        if ready and not hasty:
            (ready[0] if len(ready) == 1 else self.chance.choice(ready)).step()
        elif self._agenda:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        else:
            return False
        return True
