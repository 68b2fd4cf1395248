"""Runs whose services hold the host, so that none of them can go on: found, and one of them told to give way.

A leader says when nothing of its run can move unless other runs give room, and how many updates it had had by then.
That counts for as long as it has been told of no more, and nothing but services that are up runs here for it. Such runs
hold what they hold for ever; of all others it is expected that they end some time. Where none of these runs could go on
even then, the youngest that makes the difference is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orch.agent import protocol
from orch.agent.admission import Admission
from orch.agent.connections import Connection
from orch.agent.model import Phase, Run


class Standstill:
    """Looks for them in each turn of the agent; that costs next to nothing while no leader says so."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._said: dict[Run, None] = {}
        self._runs: list[Run] = []
        self._yields: Run | None = None

    def said(self, run: Run) -> None:
        """The leader of this run says that it stands still."""
        self._said[run] = None

    def look(self, runs: Iterable[Run]) -> None:
        """Before anything is let in. `runs`: all, the oldest first."""
        self._admission.expect_no_end_of(self._still(runs))

    def settle(self, runs: Iterable[Run], connections: Collection[Connection]) -> None:
        """Once all that has room was let in: tell the run that has to give way, and the one that has not any more."""
        still = self._still(runs)
        if not still and not self._runs:
            return
        self._yields = self._admission.to_give_way(still)
        self._runs = still if self._yields is not None else []
        for connection in list(connections):  # one that turns out to be gone leaves them
            chosen = self._yields if connection.run is self._yields else None
            if connection.gives_way != (chosen is not None):
                connection.gives_way = chosen is not None
                connection.send(protocol.GiveWay(self._lacks(chosen) if chosen is not None else ""))

    def of(self, run: Run) -> str:
        """What is to come for a run that waits for others, for people."""
        if self._yields is None or run not in self._runs:
            return ""
        return (
            f"; only services run, and none of these runs can go on beside the others: run {self._yields.name} "
            "is given up after its --deadlock-wait"
        )

    def _still(self, runs: Iterable[Run]) -> list[Run]:
        for run in list(self._said):
            if run.connection is None or run.connection.still < 0:
                del self._said[run]
        return [run for run in runs if self._stands_still(run) and self._serves(run)] if self._said else []

    def _stands_still(self, run: Run) -> bool:
        return run in self._said and run.connection is not None and run.connection.stands_still

    def _serves(self, run: Run) -> bool:
        """Do services that are up run, and nothing else? More may run of which nobody has heard yet."""
        held = self._admission.held_by(run) if run.waiting else []
        return bool(held) and all(task.up is not None and task.phase is Phase.RUNNING for task in held)

    def _lacks(self, run: Run) -> str:
        """What the first that waits of a run lacks."""
        task = next(task for task in run.tasks.values() if task.phase is Phase.QUEUED)
        return self._admission.waits_for(run, task.shape)
