"""Finds out when a run can never move again."""

from __future__ import annotations

from collections.abc import Callable

from orch.adapters.contract import Session
from orch.state.deadlock import deadlock, waits_for_others
from orch.state.decide import Decision, Limits
from orch.state.model import State


class Stall:
    """Looks after each decision whether anything can still move. `now`: monotonic seconds."""

    def __init__(self, state: State, session: Session, now: Callable[[], float]) -> None:
        self._state = state
        self._session = session
        self._now = now
        self._since: float | None = None

    def look(self, limits: Limits, decision: Decision, patience: float) -> str:
        """Why the run must be given up; empty unless it has been so for as long as `patience` (seconds)."""
        found = self._look(limits, decision)
        if not found:
            self._since = None
            return ""
        if self._since is None:
            self._since = self._now()
        return found if self._now() - self._since >= patience else ""

    def over(self, patience: float) -> float | None:
        """When to look again although nothing has come; None: no need to."""
        return None if self._since is None else self._since + patience

    def _look(self, limits: Limits, decision: Decision) -> str:
        """The same without patience. The adapter is told if only other runs can help."""
        moves = decision.submit or decision.cancel or decision.stop or decision.end or decision.leave
        if moves or not self._may_be():
            self._session.stand_still(waits=False)
            return ""
        capacity = self._session.capacity()
        self._session.stand_still(waits=waits_for_others(self._state, capacity))
        return deadlock(self._state, capacity, limits)

    def _may_be(self) -> bool:
        """Is it worth a look? Without services, only where nothing is live."""
        lanes = self._state.lanes
        return bool(lanes["service"] or lanes["preemptible service"] or not self._state.live)
