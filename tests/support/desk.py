"""The pure part of a leader, and an adapter that says at once how an attempt ended."""

from __future__ import annotations

from orch.adapters.contract import Finished, Queued, Started
from orch.attempt import Outcome, Plan, Reason
from orch.bus import events as ev
from orch.state.decide import Limits, attempt_key, decide
from orch.state.model import State
from orch.state.policy import Rules
from orch.state.react import planned, react
from support.folded import Folded

LIMITS = Limits(slots=4, ahead=4)


class Desk:
    """The pure part of a leader, without a log and without an adapter."""

    def __init__(self, plan: Plan) -> None:
        self.told = Folded(ev.Opened(run="r", host="h", pid=1), ev.Created(run="r"), *planned(plan, Rules(backoff=0)))

    @property
    def state(self) -> State:
        return self.told.state

    def finished(self, job: int, **fields: object) -> None:
        key = self.state.jobs[job].key
        outcome = Outcome(**{"key": key, "reason": Reason.FINISHED, **fields})  # type: ignore[arg-type]
        self.told.then(*react(self.state, Finished(key=key, outcome=outcome), Rules(backoff=0), lambda _: ""))

    def submit(self) -> list[int]:
        """Intend what is to be done now."""
        jobs = decide(self.state, LIMITS).submit
        self.told.then(*(ev.Submitting(job=job, attempt=1, key=attempt_key("r", job, 1)) for job in jobs))
        return jobs

    def run(self) -> None:
        """All jobs, a few at a time, with every update there is."""
        while decide(self.state, LIMITS).end == "":
            for job in self.submit():
                key = self.state.jobs[job].key
                for update in (Queued(key=key, id="7"), Started(key=key), Started(key=key)):
                    self.told.then(*react(self.state, update, Rules(backoff=0), lambda _: ""))
                self.finished(job)
        self.told.then(ev.Ended(outcome=decide(self.state, LIMITS).end))
