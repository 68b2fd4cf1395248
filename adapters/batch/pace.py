"""How long to wait: after trouble, between looks, between submissions. No clock here: time comes in."""

from __future__ import annotations

from collections.abc import Callable

Chance = Callable[[], float]
"""Gives numbers from 0 to 1."""


class Backoff:
    """Ever longer waits while trouble goes on, a quarter more or less, so that many do not come back together."""

    def __init__(self, chance: Chance, first: float = 1.0, most: float = 60.0) -> None:
        self._chance = chance
        self._first = first
        self._most = most
        self._next = first

    def more(self) -> float:
        """Trouble again: seconds to wait now."""
        wait, self._next = self._next, min(self._next * 2, self._most)
        return min(wait * (0.75 + self._chance() / 2), self._most)

    def reset(self) -> None:
        """It is over."""
        self._next = self._first


class Rhythm:
    """An interval that shrinks when things change and grows while they do not. `fixed`: unless it is fixed."""

    def __init__(self, least: float, most: float, growth: float = 1.5, fixed: float = 0.0) -> None:
        self._least = fixed or least
        self._most = fixed or most
        self._growth = growth
        self.interval = self._least

    def look(self, *, changed: bool) -> float:
        """What the last look has come to; seconds until the next."""
        if changed:
            self.interval = max(self._least, self.interval / 4)
        else:
            self.interval = min(self._most, self.interval * self._growth)
        return self.interval

    def hurry(self) -> None:
        """Something is about to change."""
        self.interval = self._least


class Turnstile:
    """Lets some through at once, and then one each `gap` seconds: what waits meanwhile goes together."""

    def __init__(self, at_once: int, gap: float) -> None:
        self._at_once = at_once
        self._gap = gap
        self._level = 0.0
        self._since = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next may go."""
        over = self._drained(now) - (self._at_once - 1)
        return max(0.0, over * self._gap)

    def through(self, now: float) -> None:
        """One has gone."""
        self._level, self._since = self._drained(now) + 1, now

    def _drained(self, now: float) -> float:
        return max(0.0, self._level - (now - self._since) / self._gap)
