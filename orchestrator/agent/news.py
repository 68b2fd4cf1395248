"""When leaders hear of what has happened: at once, or together with what happens in the next few milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

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
        self._unsent: dict[Connection, None] = {}
        self._holding = False
        self._overdue = False

    def add(self, connection: Connection, updates: Iterable[Update], *, pressing: bool) -> None:
        """Have these sent. `pressing`: the leader may have something to do after one of them."""
        connection.tell(updates, pressing=pressing)
        self._unsent[connection] = None

    def tell(self) -> None:
        """Send what cannot wait, or has waited for long enough."""
        overdue, self._overdue = self._overdue, False
        for each in list(self._unsent):
            if overdue or each.run is None or (each.pressing and each.run.waiting < ENOUGH):
                del self._unsent[each]
                each.flush_updates()
            elif not self._holding:
                self._holding = True
                self._loop.after(HOLD, self._hold_no_longer)

    def _hold_no_longer(self) -> None:
        self._holding = False
        self._overdue = True
