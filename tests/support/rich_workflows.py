"""Random workflows with everything in them that jobs can be to each other, whose result is known beforehand.

As in `support.workflows`, what a job does follows from the seed and its name. A service gives its own name as its
credentials, with the number of its attempt, which no result depends on. Some jobs fail for good a known number of
times, below a checkpoint that makes them again; the values of some calls are known from an earlier run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import msgspec

from orch.attempt import Attempt, NewJob, Outcome, Plan, Reason
from orch.bus.events import Blob, Call, Resources, Retry
from support.random_graphs import passable, random_jobs
from support.workflows import Resolved, blob, number, resolve

SMALL = Resources(cores=0.01, memory=1 << 20)
"""What a service asks for: there is room for all of them."""

OFTEN = 0.4
"""Chance that a call was made in an earlier run, if it may be reused."""

UNLUCKY = 0.8
"""Chance that something below a checkpoint fails."""


class Shape(msgspec.Struct):
    """What a body makes. `failing`: of these jobs, how often each one fails for good."""

    jobs: list[NewJob] = []
    refs: list[int] = []
    alias: bool = False
    failing: dict[int, int] = {}


class RichWorkflow:
    """`plan` for the workflow function, `body` for every job, and the result that must come out.

    `names`   of the jobs whose bodies have to be committed, once each
    `reused`  of those that take the value of an earlier call instead; `earlier`: these values, by digest of the call
    `has_failed` says how often a job has failed for good so far
    """

    def __init__(self, seed: int, *, most: int = 4, deepest: int = 3, services: int = 1) -> None:
        self._seed = seed
        self._most = most
        self._deepest = deepest
        self._services = services
        self.has_failed: Callable[[str], int] = lambda _: 0
        self.names: set[str] = set()
        self.reused: set[str] = set()
        self.earlier: dict[str, Resolved] = {}
        self.known: dict[str, Resolved] = {}  # what each call that may be reused comes to, by its digest
        self._shapes: dict[str, Shape] = {}
        self.expected = self._value("main", [])

    def _shape(self, name: str, *, checkpoint: bool = False) -> Shape:
        found = self._shapes.get(name)
        if found is None:
            found = self._shapes[name] = self._new_shape(name, checkpoint=checkpoint)
        return found

    def _new_shape(self, name: str, *, checkpoint: bool) -> Shape:
        chance = random.Random(f"{self._seed}:{name}")
        depth = name.count("/")
        if depth >= self._deepest or chance.random() < 0.25 * depth:
            return Shape()
        made = random_jobs(chance, self._most, least=0 if depth else 2, services=self._services)
        jobs = [self._with_settings(chance, job, f"{name}/{k}") for k, job in enumerate(made)]
        refs = [job for job in passable(jobs) if chance.random() < 0.5]
        alias = bool(refs) and chance.random() < 0.3
        failing: dict[int, int] = {}
        plain = [k for k, job in enumerate(jobs) if job.form == "fork" and not (job.cache or job.wanted.size)]
        if checkpoint and plain and chance.random() < UNLUCKY:
            unlucky = chance.choice(plain)
            failing[unlucky] = chance.randint(1, 2)
            jobs[unlucky] = msgspec.structs.replace(jobs[unlucky], retries=0)
        return Shape(jobs, refs[:1] if alias else refs, alias, failing)

    def _with_settings(self, chance: random.Random, job: NewJob, name: str) -> NewJob:
        body = blob(name if job.form == "service" else [name, job.checkpoint])
        if job.form != "fork":
            resources = SMALL if job.form == "service" else Resources()
            return msgspec.structs.replace(job, name=name, body=body, resources=resources, retries=2, local=False)
        resources = Resources(cores=chance.choice([0.5, 1.0, 1.0, 1.5]), memory=chance.choice([1, 1, 2, 4]) << 30)
        return msgspec.structs.replace(
            job,
            name=name,
            body=body,
            resources=resources,
            retry=Retry(memory_cap=6 << 30),  # all that there is would be too much, with a service beside it
            retries=max(job.retries, 2 * job.checkpoint),
        )

    # What comes out ----------------------------------------------------------------------------------------------

    def _value(self, name: str, needs: list[Resolved], *, checkpoint: bool = False) -> Resolved:
        """What the body and all that follows from it come to."""
        shape = self._shape(name, checkpoint=checkpoint)
        found: dict[int, Resolved] = {}

        def value(job: int) -> Resolved:
            if job not in found:
                found[job] = self._of_job(f"{name}/{job}", shape.jobs[job], [value(n) for n in shape.jobs[job].needs])
            return found[job]

        for job in range(len(shape.jobs)):
            value(job)
        if shape.alias:
            return found[shape.refs[0]]
        return [number(name, needs), *(found[ref] for ref in shape.refs)]

    def _of_job(self, name: str, job: NewJob, needs: list[Resolved]) -> Resolved:
        if job.form == "service":
            return ["service", name]
        if job.form == "group":
            return needs[0] if needs else None
        if not job.cache:
            self.names.add(name)
            return self._value(name, needs, checkpoint=job.checkpoint)
        digest = _digest(name, needs)
        hit = random.Random(f"{self._seed}:{name}:earlier").random() < OFTEN
        names, reused = set(self.names), set(self.reused)
        value = self.known[digest] = self._value(name, needs, checkpoint=job.checkpoint)
        if hit:  # nothing below it is ever made
            self.names, self.reused = names, {*reused, name}
            self.earlier[digest] = value
        else:
            self.names.add(name)
        return value

    # What is left behind -----------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What the workflow function leaves behind."""
        outcome = self._outcome("main", [])
        return Plan(value=outcome.value, refs=outcome.refs, alias=outcome.alias, jobs=outcome.jobs)

    def body(self, attempt: Attempt) -> Outcome:
        """What an attempt leaves behind when all goes well. Of a service: its credentials."""
        name = attempt.name
        if attempt.form == "service":
            assert json.loads(attempt.body.data) == name
            value = blob(["service", name, attempt.attempt])
            return Outcome(key="", reason=Reason.FINISHED, value=value)
        assert json.loads(attempt.body.data)[0] == name
        needs = [_without_attempt(resolve(attempt.values, need)) for need in attempt.needs]
        if attempt.survey:
            return self._survey(attempt, needs)
        if self._has_bad_luck(name):
            return Outcome(key="", reason=Reason.FAILED, message="as it has to")
        return self._outcome(name, needs, checkpoint=json.loads(attempt.body.data)[1])

    def _has_bad_luck(self, name: str) -> bool:
        maker, _, place = name.rpartition("/")
        often = self._shape(maker, checkpoint=True).failing.get(int(place), 0) if self._is_checkpoint(maker) else 0
        return self.has_failed(name) < often

    def _is_checkpoint(self, name: str) -> bool:
        maker, _, place = name.rpartition("/")
        return bool(maker) and self._shape(maker, checkpoint=self._is_checkpoint(maker)).jobs[int(place)].checkpoint

    def _survey(self, attempt: Attempt, needs: list[Resolved]) -> Outcome:
        call = Call(digest=_digest(attempt.name, needs), code="code") if attempt.cache else None
        assert attempt.asked is not None
        wanted = attempt.asked
        if attempt.wanted.size:
            wanted = msgspec.structs.replace(wanted, cores=0.25, memory=1 << 30)
        return Outcome(key="", reason=Reason.FINISHED, resources=wanted, call=call)

    def _outcome(self, name: str, needs: list[Resolved], *, checkpoint: bool = False) -> Outcome:
        shape = self._shape(name, checkpoint=checkpoint)
        value = blob([number(name, needs), *({"job": k} for k in range(len(shape.refs)))])
        return Outcome(
            key="",
            reason=Reason.FINISHED,
            value=Blob() if shape.alias else value,
            refs=shape.refs,
            alias=shape.alias,
            jobs=shape.jobs,
        )


def _digest(name: str, needs: list[Resolved]) -> str:
    return f"call:{name}:{number(name, needs)}"


def _without_attempt(value: Resolved) -> Resolved:
    """Credentials of a service, whichever attempt gave them."""
    return value[:2] if isinstance(value, list) and value[:1] == ["service"] else value
