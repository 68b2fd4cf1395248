"""Plays the leader for a worker's agent: hands over one attempt, and puts what it hears into the files of the spool."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

import msgspec

from orch.adapters.contract import Finished, RunInfo, Started, Update
from orch.agent import protocol
from orch.agent.core import Agent
from orch.agent.loop import Loop
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.worker import memory
from orch.worker.spool import Claim, Spool, Ticket

GATHER = 1.0
"""Seconds for which notes are gathered, but those that a service is up."""

LOOK = 1.0
"""Seconds between looks for a wish that a service stops."""

AGAIN = 1.0
"""Seconds until something is tried again that could not be written."""

PATIENCE = 60.0
"""Seconds for which that is done; then the outcome is lost."""

HOLD = 0.3
"""Seconds for which an end is looked at twice that a signal of the batch system may have brought about."""

ECHO = 0.5
"""Seconds within which the same signal is the same warning: a batch system may send it twice."""

GONE = signal.SIGKILL
"""Stands for the end of the front, which nothing else can end."""


class Deputy:
    """The leader of one attempt; a `Stream` for its agent. `failure`: why no outcome could be left, once it is over.

    `hurry` ends the attempt at once.
    """

    def __init__(self, loop: Loop, spool: Spool, ticket: Ticket, claim: Claim, hurry: Callable[[str], None]) -> None:
        self.failure = ""
        self._loop = loop
        self._spool = spool
        self._ticket = ticket
        self._claim = claim
        self._hurry = hurry
        self._frames = protocol.Frames()
        self._agent: Agent
        self._key = ""
        self._notes: list[Note] = []
        self._numbers = 0
        self._gathering = False
        self._started: Claim | None = None
        self._kills = memory.kills()
        self._outcome: Outcome | None = None
        self._signal = 0
        self._signal_at = 0.0
        self._tries_left = int(PATIENCE / AGAIN)

    def hand_over(self, agent: Agent, info: RunInfo, runtime: str, attempt: Attempt) -> None:
        """Have it run."""
        self._agent, self._key = agent, attempt.key
        self._connection = agent.accept(self)
        self._say(protocol.Hello.of(info, runtime))
        self._say(protocol.Submit([attempt]))
        if attempt.form == "service":
            self._loop.after(LOOK, self._look)

    def _say(self, message: protocol.FromLeader) -> None:
        self._agent.heard(self._connection, message)

    # What the batch system says -------------------------------------------------------------------------------

    def warned(self, number: int, now: float) -> None:
        """It has sent a signal: the attempt is to end. The second hurries. `now`: monotonic seconds."""
        if self._signal == number and now - self._signal_at < ECHO:
            return
        if not self._signal:
            self._say(protocol.Cancel([self._key]))
        if self._signal or number == GONE:
            self._hurry(self._key)
        self._signal = self._signal or number
        self._signal_at = now

    def _look(self) -> None:
        with contextlib.suppress(OSError):  # the store may come back
            self._spool.refresh("wishes")
        if self._spool.asked_to_stop(self._ticket):
            self._say(protocol.StopServices([self._key]))
        elif self._outcome is None:
            self._loop.after(LOOK, self._look)

    # What the agent says --------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Hear it."""
        for each in self._frames.feed(data):
            match protocol.from_agent(each):
                case protocol.Updates(items):
                    for update in items:
                        self._hear(update)
                case protocol.Refused(message):
                    self._over(Outcome(key=self._key, reason=Reason.ERROR, message=message, host=self._claim.host))
                case _:
                    pass

    def finish(self) -> None:
        """It has nothing more to say."""

    def close(self) -> None:
        """As above."""

    def _hear(self, update: Update) -> None:
        match update:
            case Started():
                self._started = msgspec.structs.replace(self._claim, pid=update.pid, since=update.since)
                self._write()
            case Note():
                self._noted(update)
            case Finished(_, outcome):
                self._over(outcome)
            case _:
                pass

    def _noted(self, note: Note) -> None:
        self._notes.append(note)
        if note.kind == "up":
            self._write()
        elif not self._gathering:
            self._gathering = True
            self._loop.after(GATHER, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        self._write()

    def _over(self, outcome: Outcome) -> None:
        self._outcome = outcome
        if not self._signal and may_be_a_signals(outcome):
            self._loop.after(HOLD, self._leave)
        else:
            self._leave()

    # Files ----------------------------------------------------------------------------------------------------

    def _write(self) -> bool:
        """Write what is new; False if something could not be written: it will be, with what comes next."""
        try:
            if self._started is not None:
                self._spool.put_started(self._ticket, self._started)
                self._started = None
            if self._notes:
                self._spool.put_notes(self._ticket, self._numbers + 1, self._notes)
                self._numbers += 1
                self._notes = []
        except OSError as error:
            self.failure = error.strerror or str(error)
            return False
        return True

    def _leave(self) -> None:
        """Leave the outcome, after all else."""
        if self._wrote_outcome():
            self.failure = ""
            self._say(protocol.Acknowledge([self._key]))
            self._loop.stop()
        elif self._tries_left:
            self._tries_left -= 1
            self._loop.after(AGAIN, self._leave)
        else:
            self._loop.stop()

    def _wrote_outcome(self) -> bool:
        assert self._outcome is not None
        outcome = self._explained(self._outcome)
        try:
            if self._write():
                self._spool.put_outcome(self._ticket, outcome)
                return True
        except OSError as error:
            self.failure = error.strerror or str(error)
        return False

    def _explained(self, outcome: Outcome) -> Outcome:
        """With its cause, as far as that is known here, if it did not end well all the same."""
        if outcome.reason in (Reason.FAILED, Reason.LOST) and memory.kills() > self._kills:
            why = "the kernel has killed a process of it: it needed more memory than its batch system gave it"
            return msgspec.structs.replace(outcome, reason=Reason.MEMLIMIT, message=why)
        if not self._signal or outcome.reason not in (Reason.KILLED, Reason.FAILED, Reason.LOST):
            return outcome
        said = "killed it" if self._signal == GONE else f"sent {signal.Signals(self._signal).name}"
        return msgspec.structs.replace(
            outcome, reason=Reason.KILLED, exit_code=None, signal=self._signal, message=f"its batch system {said}"
        )


def may_be_a_signals(outcome: Outcome) -> bool:
    """Can the news of the signal that ended it still be on its way? A shell says 128 and its number."""
    died = outcome.signal != 0 or (outcome.exit_code or 0) > 128
    return outcome.reason is Reason.LOST or (outcome.reason is Reason.FAILED and died)
