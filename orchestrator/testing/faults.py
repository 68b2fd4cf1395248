"""What the fakes share: a clock that only moves when told to, and crashes on command."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Literal

_START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


class Crashed(Exception):
    """The leader was killed here, on command of a test."""


class SimClock:
    """Simulated time. `seconds` since the start; calling it gives the time as the log writes it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> str:
        """The time now: UTC, ISO 8601, microseconds, "Z"."""
        now = _START + dt.timedelta(seconds=self.seconds)
        return now.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def reach(self, seconds: float) -> None:
        """It is (at least) so late."""
        self.seconds = max(self.seconds, seconds)


@dataclasses.dataclass
class Crash:
    """Kill the leader at the `at`-th call (from 1): before the call did anything, after all of it, or half-way."""

    at: int
    when: Literal["before", "half", "after"] = "before"
    calls: int = 0

    def due(self) -> bool:
        """Count a call; is this the one?"""
        self.calls += 1
        return self.calls == self.at
