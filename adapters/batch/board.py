"""All tasks of a run, and what is concluded from what their files and the batch system say of them.

Files come first: a worker's outcome is how its attempt has ended. The batch system is believed where there is none, and
only after a while, for files may be late (`PATIENCE`); and where a worker was told to end and nobody here had asked for
that. Nothing is concluded from silence before much time has passed and several good answers have come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from orch.adapters.batch import endings
from orch.adapters.batch.dialect import End, Seen, Stage
from orch.adapters.batch.records import NEVER, Submission, Task
from orch.adapters.contract import Finished, Queued, Started, Update
from orch.attempt import Note, Outcome, Reason
from orch.worker.spool import Claim, Ticket

PATIENCE = 6.0
"""Seconds for which an outcome may be late: file servers, and what their clients remember."""

UNBEGUN = 1.0
"""The same where no worker is known to have begun: what it has printed may be late."""

EXPLAINED_WITHIN = 30.0
"""Seconds in which the batch system is to say why it has ended something."""

GOOD_ANSWERS = 3
"""So many have to be without a task before it can be given up."""


class Board:
    """Of one run. `tell` is told news for the leader, `remove` what the batch system is to end.

    `hurry` is called when the batch system's account is waited for, `say` with what the user should know, `added` when
    there is more to hear news of.
    `lag` as of the dialect, `missing_after`: seconds. `now`: monotonic ones.
    """

    def __init__(
        self,
        *,
        tell: Callable[[Update], None],
        say: Callable[[str], None],
        remove: Callable[[Iterable[Task]], None],
        hurry: Callable[[], None],
        added: Callable[[], None],
        lag: float,
        missing_after: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.submissions: dict[str, Submission] = {}
        self.tasks: dict[str, Task] = {}
        self._tell = tell
        self._say = say
        self._remove = remove
        self._hurry = hurry
        self._added = added
        self._patience = max(PATIENCE, lag)
        self._explained_within = EXPLAINED_WITHIN + lag
        self._lag = lag
        self._missing_after = missing_after
        self._now = now
        self._ending: set[Task] = set()
        self._warned: set[str] = set()

    # What there is --------------------------------------------------------------------------------------------

    def add(self, submission: Submission) -> None:
        """Know of a submission. Of tasks with the same key, the last wanted one counts."""
        self.submissions[submission.name] = submission
        self._added()
        for task in submission.tasks:
            if task.wanted:
                self.tasks[task.key] = task

    def given_up(self, task: Task) -> None:
        """It will never begin, and another may have its key."""
        task.wanted, task.gone, task.acked = False, True, True
        if self.tasks.get(task.key) is task:
            del self.tasks[task.key]

    def drop(self, submission: Submission) -> None:
        """Know nothing of it any more."""
        del self.submissions[submission.name]
        for task in submission.tasks:
            task.cancel_at = NEVER
            if self.tasks.get(task.key) is task:
                del self.tasks[task.key]

    def of(self, ticket: Ticket) -> Task | None:
        """The task that has a ticket."""
        submission = self.submissions.get(ticket.submission)
        if submission is None or not 0 < ticket.task <= len(submission.tasks):
            return None
        return submission.tasks[ticket.task - 1]

    @property
    def active(self) -> bool:
        """Is the end of anything waited for?"""
        return any(task.wanted for task in self.tasks.values())

    # What files say -------------------------------------------------------------------------------------------

    def taken(self, submission: Submission) -> None:
        """The batch system has it, under its `job`."""
        for task in submission.tasks:
            if task.wanted:
                self._tell(Queued(task.key, task.id))
            else:
                self._remove([task])

    def started(self, task: Task, claim: Claim) -> None:
        """A worker runs it."""
        task.claim = claim
        if task.wanted:
            name = task.id or claim.job
            self._tell(Started(task.key, host=claim.host, pid=claim.pid, since=claim.since, id=name))

    def noted(self, task: Task, number: int, notes: list[Note]) -> None:
        """It has said something."""
        if number > task.notes:
            task.notes = number
            if task.wanted:
                for note in notes:
                    self._tell(note)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A worker has left an outcome."""
        if task.killed is not None:  # and what the batch system says of that is waited for
            return
        if task.wanted and not task.asked and outcome.reason is Reason.KILLED:
            task.killed = outcome
            self._wait_for(task)
            self._hurry()
            return
        task.gone = True
        if task.wanted:
            self.finish(task, outcome)

    def ask(self, task: Task) -> None:
        """The leader wants its end."""
        task.asked = True
        if task.wanted and task.killed is not None:  # it has come already
            task.gone = True
            self.finish(task, task.killed)

    def finish(self, task: Task, outcome: Outcome) -> None:
        """Its end is known."""
        task.wanted = False
        task.over_at = NEVER
        self._ending.discard(task)
        if task.gone and not task.forgotten:
            task.cancel_at = NEVER
        task.outcome = outcome
        self._tell(Finished(task.key, outcome))

    def acknowledged(self, task: Task) -> None:
        """Its end is in the log."""
        task.acked = True
        task.outcome = None

    def standing(self, task: Task) -> None:
        """Say again where it stands."""
        if task.outcome is not None:
            self._tell(Finished(task.key, task.outcome))
        elif task.claim is not None:
            self.started(task, task.claim)
        elif task.wanted:
            self._tell(Queued(task.key, task.id))

    def revoked(self, task: Task) -> None:
        """No worker can ever have it: that is its end, if one was wanted. What is queued of it is removed."""
        if task.wanted:
            self.finish(task, endings.on_request(task.key))
        self._remove([task])

    # What the batch system says -------------------------------------------------------------------------------

    def saw(self, task: Task, seen: Seen) -> bool:
        """It says this of a task. Is that new?"""
        before, task.seen = task.seen, seen
        task.absent, task.absent_since = 0, NEVER
        if seen.stage is Stage.OVER:
            self._over(task, seen.end)
        elif task.killed is None and not task.forgotten:
            task.end, task.over_at = None, NEVER  # it is there again: started anew, say
            self._ending.discard(task)
        if seen.stage in (Stage.HELD, Stage.STRANGE):
            self._warn(task, seen)
        if not task.wanted and seen.stage not in (Stage.OVER, Stage.ENDING):
            self._remove([task])
        return before is None or (before.word, before.why) != (seen.word, seen.why)

    def _over(self, task: Task, end: End | None) -> None:
        if not task.wanted:
            task.gone = True
        else:
            task.end = end or task.end
            self._wait_for(task)

    def _wait_for(self, task: Task) -> None:
        """Something about its end is to come still: an outcome, or what the batch system says."""
        if task.over_at == NEVER:
            task.over_at = self._now()
        self._ending.add(task)

    def _warn(self, task: Task, seen: Seen) -> None:
        text = f"{seen.word}: {seen.why}" if seen.why else seen.word
        if text in self._warned:
            return
        self._warned.add(text)
        if seen.stage is Stage.HELD:
            self._say(f"the batch system holds {task.id} ({text}): it does not start before somebody releases it")
        else:
            self._say(f"the batch system says of {task.id} what orch does not know: {text}; it goes on asking")

    def missed(self, task: Task, *, surely: bool) -> bool:
        """It knows nothing of a task. Is that new?"""
        now = self._now()
        task.absent += 1
        task.absent_since = min(task.absent_since, now)
        long = now - task.absent_since
        if not task.wanted:
            task.gone = task.gone or (task.absent > 1 and long >= self._lag)
        elif surely and task.absent >= GOOD_ANSWERS and long >= self._missing_after:
            task.forgotten = True
            self._wait_for(task)
        return task.absent == 1

    # Time -----------------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Is there a task of which something is to come soon, or nothing?"""
        return bool(self._ending)

    def due(self) -> list[Task]:
        """Those whose end is to be concluded from what is there now."""
        now = self._now()
        return [task for task in self._ending if self._is_due(task, now - task.over_at)]

    def _is_due(self, task: Task, long: float) -> bool:
        if task.forgotten:
            return True
        if task.killed is not None:
            return task.end is not None or long >= self._explained_within
        return long >= (UNBEGUN if task.claim is None else self._patience)

    def conclude(self, task: Task, outcome: Outcome | None, claim: Claim | None, said: str) -> Outcome | None:
        """How a task that is due has ended; None: it has finished meanwhile. `outcome`: if there is one after all."""
        if not task.wanted:
            return None
        if outcome is not None and task.killed is None:
            self.ended(task, outcome)
            return None
        if task.killed is not None:
            return endings.explained(task.killed, task.end)
        if task.forgotten:
            self._remove([task])
            return endings.forgotten(task.key, claim, asked=task.asked)
        if claim is not None and task.claim is None:  # it has begun after all: its outcome may be late
            task.claim = claim
            return None
        end = task.end or End(Reason.LOST, message="the batch system says that it is over, and not how")
        return endings.without_outcome(task.key, end, claim, said, asked=task.asked)

    def concluded(self, task: Task, outcome: Outcome) -> None:
        """That is its end, with what could be saved of its output."""
        if task.wanted:
            task.gone = True
            self.finish(task, outcome)
