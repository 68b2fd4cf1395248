"""What the kit has to know of an adapter: how to have one, what is patience, and what it can make go wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest

from orch.adapters.contract import Adapter, RunInfo
from orch.attempt import Reason

FAULTS = (
    "cancel_outside",
    "forget",
    "down",
    "slow",
    "nonsense",
    "strange",
    "twice",
    "lose_answer",
    "refuse",
    "hold",
    "lose_node",
    "preempt",
    "start_again",
)
"""What a rig can do to a batch system, or says in `cannot` that it cannot, and why."""


class Rig:
    """Derive from it, for an adapter, and have it made anew for each test. `root`: a folder that all nodes see.

    `cannot`    what the batch system cannot be made to do, by the name of the method, and why: the tests that need it
                say so, as skipped ones
    `patience`  seconds in which what has to happen happens, on a busy day
    `many`      how many attempts are handed over where it is to be many
    `options`   the adapter's settings: the shortest intervals that make sense, or the kit takes long
    `accept`    more reasons with which an attempt may end there, by the names in `REASONS`
    `here`      its processes are on this host, so the kit can look whether any of them is left
    """

    cannot: ClassVar[dict[str, str]] = {}
    accept: ClassVar[dict[str, set[Reason]]] = {}
    patience: float = 30.0
    many: int = 200
    here: bool = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.options: dict[str, str] = {}

    # To be written for each adapter -------------------------------------------------------------------------------

    def adapter(self) -> Adapter:
        """A new one, as another process would have."""
        raise NotImplementedError

    def left(self) -> list[str]:
        """What the batch system has that waits or runs, for messages; asked when nothing should."""
        raise NotImplementedError

    # To be changed where they are wrong ---------------------------------------------------------------------------

    def info(self, store: str, run: str, epoch: int) -> RunInfo:
        """A run, as its leader tells the adapter of it."""
        return RunInfo(
            run=run,
            epoch=epoch,
            store=store,
            environment=dict(os.environ),
            work_dir=str(self.root / "work"),
            options=self.options,
        )

    def close(self) -> None:
        """End what the rig has started. Called by whoever has made it."""

    # What can go wrong --------------------------------------------------------------------------------------------

    def cancel_outside(self, external: str) -> None:
        """End a task by the batch system's own command. `external`: the id that the adapter has said."""
        raise NotImplementedError

    def forget(self, external: str) -> None:
        """Have the batch system forget a task, that waits and never runs then, or that runs and goes on."""
        raise NotImplementedError

    def down(self, *, down: bool) -> None:
        """It does not answer; or does again."""
        raise NotImplementedError

    def slow(self, seconds: float) -> None:
        """Each answer takes so long; 0: as usual."""
        raise NotImplementedError

    def nonsense(self, text: str) -> None:
        """What it answers is this; empty: as usual."""
        raise NotImplementedError

    def strange(self, external: str, word: str) -> None:
        """It says that a task is in this state, of which nobody has heard; empty: as usual."""
        raise NotImplementedError

    def twice(self, *, twice: bool) -> None:
        """It names each task twice."""
        raise NotImplementedError

    def lose_answer(self, how: str) -> None:
        """It takes the next submission, and the answer is lost: "fail", an error comes; "hang": nothing ever."""
        raise NotImplementedError

    def refuse(self, text: str) -> None:
        """It refuses the next submission for good, and says why."""
        raise NotImplementedError

    def hold(self, *, hold: bool) -> None:
        """Nothing that is handed over from now on starts; or does again.

        Of a rig that cannot, the kit fills what there is, as the adapter says (`capacity`): that is for one host.
        """
        raise NotImplementedError

    def lose_node(self, external: str, pid: int) -> None:
        """The node where a task runs is gone (for a while), and all that runs there. `pid`: what `Started` has said."""
        raise NotImplementedError

    def preempt(self, external: str) -> None:
        """The place of a task that runs is taken away."""
        raise NotImplementedError

    def start_again(self, external: str) -> None:
        """A task that runs is started a second time."""
        raise NotImplementedError

    # Asked by the kit ---------------------------------------------------------------------------------------------

    def need(self, fault: str) -> None:
        """Raises `unittest.SkipTest`, which test runners know, where this cannot be produced."""
        if fault in self.cannot:
            raise SkipTest(f"{type(self).__name__} cannot {fault}: {self.cannot[fault]}")

    def undeclared(self) -> list[str]:
        """Faults that it neither produces nor says why not; and those of which it says both, or that do not exist."""
        able = {name for name in FAULTS if getattr(type(self), name) is not getattr(Rig, name)}
        return sorted(set(FAULTS) ^ able ^ set(self.cannot)) + [name for name, why in self.cannot.items() if not why]

    def accepted(self, how: str) -> set[Reason]:
        """The reasons with which an attempt may end that came to its end like this."""
        return REASONS[how] | self.accept.get(how, set())


REASONS = {
    "memory": {Reason.MEMLIMIT},
    "walltime": {Reason.MAXJOBDURATION},
    "cancelled outside": {Reason.KILLED, Reason.FAILED, Reason.LOST, Reason.PREEMPTED},
    "forgotten": {Reason.MISSING},
    "node": {Reason.LOST},
    "preempted": {Reason.PREEMPTED},
    "refused": {Reason.ERROR},
}
