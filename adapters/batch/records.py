"""What this process knows of submissions and their tasks: it is all in files as well, and made again from those."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

from orch.adapters.batch.dialect import End, Seen, Stage
from orch.attempt import Outcome
from orch.worker.spool import Claim, Spool, Ticket

NEVER = math.inf


@dataclasses.dataclass(slots=True, eq=False)
class Task:
    """One task of a submission: one attempt that was handed over under one ticket. Times are monotonic seconds.

    `wanted`    the leader waits for its end; else what the batch system still has of it is to go
    `asked`     the leader has asked for its end
    `claim`     of the worker that has it
    `notes`     how many files of notes were taken in
    `seen`      what the batch system said last
    `gone`      nothing of it is left, or can ever begin: its outcome is there, or the batch system has said so
    `acked`     its end is in the log; `cleared`: its files are removed
    `outcome`   its end, as it was told, until that is in the log
    `absent`, `absent_since`: good answers in a row that did not have it, and since when
    `over_at`   since when it is known to be over, and there is something to wait for: its outcome, or a reason
    `forgotten` the batch system has not known it for so long that it is given up
    `end`       how the batch system says that it ended; `killed`: its outcome, if it was ended and nobody here asked
    `cancel_at`, `cancels`: when the batch system is to be told (again) to end it; how often it was
    """

    key: str
    ticket: Ticket
    submission: Submission
    wanted: bool = True
    asked: bool = False
    claim: Claim | None = None
    notes: int = 0
    seen: Seen | None = None
    gone: bool = False
    acked: bool = False
    cleared: bool = False
    outcome: Outcome | None = None
    absent: int = 0
    absent_since: float = NEVER
    over_at: float = NEVER
    forgotten: bool = False
    end: End | None = None
    killed: Outcome | None = None
    cancel_at: float = NEVER
    cancels: int = 0

    @property
    def id(self) -> str:
        """What the batch system calls it; empty: not known."""
        return self.submission.task_id(self)

    @property
    def unclear(self) -> bool:
        """Does the batch system say that it is over, and not how?"""
        return self.seen is not None and self.seen.stage is Stage.OVER and self.end is None


@dataclasses.dataclass(slots=True, eq=False)
class Submission:
    """Tasks that were handed over together. `made`: seconds since 1970; `handed`: monotonic; `job` empty: not known.

    `left`: nobody looks after it here any more.
    """

    name: str
    order: str
    made: float
    spool: Spool
    owner: Owner
    tasks: list[Task] = dataclasses.field(default_factory=list)
    job: str = ""
    handed: float = 0.0
    left: bool = False

    def task_id(self, task: Task) -> str:
        """What the batch system calls a task; empty: not known."""
        return self.owner.task_id(self.job, task.ticket.task, len(self.tasks)) if self.job else ""

    @property
    def live(self) -> list[Task]:
        """Those of which something may be in the batch system."""
        return [task for task in self.tasks if not task.gone]


class Owner(Protocol):
    """Whose submissions they are: a session. It is told what the batch system says of them."""

    def task_id(self, job: str, index: int, size: int) -> str:
        """As in `Dialect.task`."""

    def saw(self, task: Task, seen: Seen) -> bool:
        """The batch system says this of it. Is that new?"""

    def missed(self, task: Task, *, surely: bool) -> bool:
        """It was asked for and is not in an answer. `surely`: nor in the batch system's records. Is that new?"""

    async def check(self, tasks: Sequence[Task]) -> None:
        """Look whether these have left outcomes, before the batch system is asked what became of them."""

    def turned_up(self, submission: Submission) -> None:
        """The batch system has one after all that it did not have, under its `job`."""

    def looked(self) -> None:
        """A look is over, and all of it was told."""
