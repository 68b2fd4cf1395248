"""Scenarios as text: what is told to the pure part of a leader, and below it what came of that.

    > plan a b(a) = b        jobs with their needs; the value is exactly b, [a b], or nothing
    > decide                 what the leader would do now; its intentions are carried out
    > queued a
    > started a
    > finished a             also "finished a makes x y(x) = y", "finished a FAILED", "finished a#1 LOST"
    > unknown a              the answer to `find`: never heard of it
    > adds a: x y            new jobs of a live attempt that have not been committed yet
    > request stop           stop, cancel, pause, resume
    > open                   another leader begins
    > restart

Below each: the events, then the moves of jobs. A retry budget stands behind the job's name: "a*2".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from orch.adapters.contract import Finished, OfAttempt, Queued, Started, Unknown
from orch.attempt import NewJob, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.bus.codec import type_name
from orch.state.decide import Limits, attempt_key, decide, parse_key
from orch.state.policy import Rules
from orch.state.react import added, planned, react
from orch.state.status import explain
from orch.testing.states import check
from support.folded import Folded

LIMITS = Limits(slots=3, ahead=0)


def play(script: str) -> str:
    """The same script, with what really came of it."""
    stage = Stage()
    told = []
    for line in script.splitlines():
        if line.startswith("> "):
            told += [line, *stage.do(line[2:])]
        elif not line.startswith("  "):
            told.append(line)  # comments and empty lines
    return "\n".join(told) + "\n"


class Stage:
    """A state, and the words that change it."""

    def __init__(self) -> None:
        self._told = Folded(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
        self._words: dict[str, Callable[[str], list[ev.Event]]] = {
            "plan": self._plan,
            "decide": self._decide,
            "queued": lambda rest: self._update(Queued(key=self._key(rest), id="7")),
            "started": lambda rest: self._update(Started(key=self._key(rest), host="h", pid=9)),
            "unknown": lambda rest: self._update(Unknown(key=self._key(rest))),
            "finished": self._finished,
            "adds": self._adds,
            "request": lambda rest: [ev.Requested(what=rest)],
            "open": lambda _: [ev.Opened(run="r", host="h", pid=2, epoch=self._told.state.epoch + 1)],
            "restart": lambda _: [ev.Restarted()],
        }
        self._notes: list[str] = []

    def do(self, line: str) -> list[str]:
        """Carry a line out; the lines that say what came of it."""
        word, _, rest = line.partition(" ")
        self._notes = []
        events = self._words[word](rest.strip())
        before = {job: row.state.value for job, row in self._told.state.jobs.items()}
        names = {job: row.name for job, row in self._told.state.jobs.items()}
        self._told.then(*events)
        check(self._told.state)
        moves = self._moves(before, names)
        return [f"  {line}" for line in [*self._notes, *map(self._said, events), *moves] or ["nothing"]]

    def _moves(self, before: dict[int, str], names: dict[int, str]) -> list[str]:
        lines = []
        state = self._told.state
        for job, row in state.jobs.items():
            if before.get(job) != row.state.value:
                why = f"  ({explain(state, row)})" if row.state.value in ("skipped", "succeeded") else ""
                old = f"{before[job]} " if job in before else ""
                lines.append(f"  {row.name}: {old}→ {row.state.value}{why}")
        return lines + [f"  {names[job]}: {before[job]} → (never was)" for job in before if job not in state.jobs]

    def _said(self, event: ev.Event) -> str:
        """An event, in one line."""
        words = [type_name(event)]
        job = getattr(event, "job", 0)
        if job:
            name = event.name if isinstance(event, ev.Added) else self._told.state.row(job).name
            attempt = getattr(event, "attempt", 0)
            words.append(name if isinstance(event, ev.Added) or not attempt else f"{name}#{attempt}")
        words += [str(getattr(event, name)) for name in ("reason", "what", "outcome") if getattr(event, name, "")]
        words += ["charged" for _ in [0] if getattr(event, "charged", False)]
        return " ".join(words)

    # The words.

    def _job(self, name: str) -> int:
        return next(row.id for row in self._told.state.jobs.values() if row.name == name)

    def _key(self, text: str) -> str:
        name, _, attempt = text.partition("#")
        row = self._told.state.jobs[self._job(name)]
        return attempt_key("r", row.id, int(attempt or row.attempt))

    def _update(self, update: OfAttempt) -> list[ev.Event]:
        return react(self._told.state, update, Rules(backoff=0), lambda _: "")

    def _plan(self, rest: str) -> list[ev.Event]:
        jobs, refs, alias = graph(rest)
        return list(planned(Plan(jobs=jobs, refs=refs, alias=alias), Rules(backoff=0)))

    def _finished(self, rest: str) -> list[ev.Event]:
        name, _, how = rest.partition(" ")
        key = self._key(name)
        outcome = Outcome(key=key, reason=Reason.FINISHED)
        if how.startswith("makes "):
            jobs, refs, alias = graph(how.removeprefix("makes "))
            outcome = Outcome(key=key, reason=Reason.FINISHED, jobs=jobs, refs=refs, alias=alias)
        elif how:
            outcome = Outcome(key=key, reason=Reason(how))
        return self._update(Finished(key=key, outcome=outcome))

    def _adds(self, rest: str) -> list[ev.Event]:
        name, _, names = rest.partition(":")
        row = self._told.state.jobs[self._job(name)]
        jobs, _, _ = graph(names.strip())
        return list(added(jobs, self._told.state.next_job, row.id, row.attempt, Rules(backoff=0)))

    def _decide(self, _: str) -> list[ev.Event]:
        state = self._told.state
        decision = decide(state, LIMITS)
        for key in decision.cancel:
            _, ended, number = parse_key(key)
            self._notes.append(f"ask to end {state.jobs[ended].name}#{number}")
        if decision.leave:
            self._notes.append("leave")
        events: list[ev.Event] = []
        for job in decision.submit:
            attempt = state.jobs[job].attempt + 1
            events.append(ev.Submitting(job=job, attempt=attempt, key=attempt_key("r", job, attempt)))
        return events + ([ev.Ended(outcome=decision.end)] if decision.end else [])


def graph(text: str) -> tuple[list[NewJob], list[int], bool]:
    """Jobs, refs and whether the value is exactly one job, from `a b(a) = b`."""
    made, _, value = text.partition("=")
    found = re.findall(r"(\w+)(?:\*(\d+))?(?:\(([\w ]*)\))?", made)
    names = [name for name, _, _ in found]
    jobs = [
        NewJob(kind="job", name=name, needs=[names.index(n) for n in needs.split()], retries=int(retries or 0))
        for name, retries, needs in found
    ]
    value = value.strip()
    refs = [names.index(name) for name in value.strip("[]").split()]
    return jobs, refs, bool(refs) and not value.startswith("[")
