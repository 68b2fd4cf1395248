"""Finds out when a run can never move again."""

from __future__ import annotations

from collections.abc import Callable

from orch.adapters.contract import Capacity
from orch.state.deadlock import deadlock
from orch.state.decide import Decision, Limits
from orch.state.model import State


class Stall:
    """Looks after each decision whether anything can still move. `now`: monotonic seconds."""

    def __init__(self, state: State, capacity: Callable[[], Capacity], now: Callable[[], float]) -> None:
        self._state = state
        self._capacity = capacity
        self._now = now
        self._since: float | None = None

    def look(self, limits: Limits, decision: Decision, patience: float) -> str:
        """Why the run must be given up; empty unless it has been so for as long as `patience` (seconds)."""
        moves = decision.submit or decision.cancel or decision.stop or decision.end or decision.leave
        found = "" if moves or not self._may_be() else deadlock(self._state, self._capacity(), limits)
        if not found:
            self._since = None
            return ""
        if self._since is None:
            self._since = self._now()
        return found if self._now() - self._since >= patience else ""

    def over(self, patience: float) -> float | None:
        """When to look again although nothing has come; None: no need to."""
        return None if self._since is None else self._since + patience

    def _may_be(self) -> bool:
        """Is it worth a look? Without services, only where nothing is live."""
        lanes = self._state.lanes
        return bool(lanes["service"] or lanes["preemptible service"] or not self._state.live)
