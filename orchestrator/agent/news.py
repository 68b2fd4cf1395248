"""When leaders hear of what has happened: at once, or together with what happens in the next few milliseconds."""

from __future__ import annotations

from collections.abc import Collection

from orch.adapters.contract import Queued, Started, Update
from orch.agent.connections import Connection
from orch.agent.ports import Loop
from orch.attempt import Note

HOLD = 0.004
"""Seconds for which updates may be held back, so that one turn and one sync of a leader do for many attempts."""

ENOUGH = 16
"""While so many attempts of a run wait for room here, no slot idles because its leader hears of an end a bit later."""


def presses(update: Update) -> bool:
    """Might a leader have something to do after it, so that somebody waits while it is held back?"""
    return not isinstance(update, Queued | Started) and (not isinstance(update, Note) or update.kind == "up")


class News:
    """Sends the updates of connections. To be told at the end of each turn of the agent, when the journal has them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._holding = False
        self._overdue = False

    def tell(self, connections: Collection[Connection]) -> None:
        """Send what cannot wait, or has waited for long enough."""
        overdue, self._overdue = self._overdue, False
        for each in list(connections):  # one that turns out to be gone leaves them
            if overdue or each.run is None or (each.pressing and each.run.waiting < ENOUGH):
                each.flush_updates()
            elif each.updates and not self._holding:
                self._holding = True
                self._loop.after(HOLD, self._hold_no_longer)

    def _hold_no_longer(self) -> None:
        self._holding = False
        self._overdue = True
