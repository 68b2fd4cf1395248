"""Random workflows whose result is known beforehand.

A job is known by its name. What it does follows from the seed and the name alone, never from the attempt or from the
order in which things happen: so the right result can be computed without any leader. A body returns a number made of
its name and of what it needs, or a list with jobs that it has made, or exactly one such job (a tail call).
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from orch.attempt import Attempt, NewJob, Outcome, Plan, Reason, Value
from orch.bus.events import Blob, Resources

Resolved = Any
"""A value in which no job stands any more."""


def blob(value: object) -> Blob:
    """A value as an event carries it; `{"job": k}` in it is the k-th of its refs."""
    data = json.dumps(value, sort_keys=True).encode()
    return Blob(data=data, size=len(data))


def resolve(values: Mapping[int, Value], job: int) -> Resolved:
    """The value of a job, with all that stands in it."""
    value = values[job]
    return _filled(json.loads(value.blob.data), lambda k: resolve(values, value.refs[k]))


def _filled(template: Any, lookup: Callable[[int], Resolved]) -> Resolved:
    if isinstance(template, dict):
        return lookup(template["job"])
    return [_filled(part, lookup) for part in template] if isinstance(template, list) else template


def number(name: str, needs: list[Resolved]) -> int:
    """What a body computes."""
    return zlib.crc32(f"{name}({json.dumps(needs)})".encode())


class Shape:
    """What the body `name` makes: jobs (each with the positions of its needs), and what of them it returns."""

    def __init__(self, seed: int, name: str, most: int, deepest: int) -> None:
        chance = random.Random(f"{seed}:{name}")
        depth = name.count("/")
        self.needs: list[list[int]] = []
        self.refs: list[int] = []
        self.alias = False
        if depth >= deepest or chance.random() < 0.25 * depth:
            return
        count = chance.randint(1, most)
        form = chance.choice(["chain", "fan-in", "tree", "wild"])
        order = list(range(count))
        if chance.random() < 0.3:
            order.reverse()  # a job may need one that comes after it
        self.needs = [[] for _ in order]
        for place, job in enumerate(order):
            self.needs[job] = sorted(order[k] for k in self._earlier(chance, form, place, count))
        users = {need for needs in self.needs for need in needs}
        self.refs = [job for job in order if job not in users or chance.random() < 0.2]
        self.alias = chance.random() < 0.4
        if self.alias:
            self.refs = [order[-1]]

    @staticmethod
    def _earlier(chance: random.Random, form: str, place: int, count: int) -> list[int]:
        if form == "chain":
            return [place - 1] if place else []
        if form == "fan-in":
            return list(range(place)) if place == count - 1 else []
        if form == "tree":
            return [k for k in (2 * place - count, 2 * place - count + 1) if 0 <= k < place]
        return [k for k in range(place) if chance.random() < 0.3]


class RandomWorkflow:
    """`plan` for the workflow function, `body` for every job, and the result that must come out."""

    def __init__(self, seed: int, *, most: int = 6, deepest: int = 3, retries: int = 2) -> None:
        self._seed = seed
        self._most = most
        self._deepest = deepest
        self._retries = retries
        self.names: set[str] = set()
        self.expected = self._value("main", [])

    def _shape(self, name: str) -> Shape:
        return Shape(self._seed, name, self._most, self._deepest)

    def _value(self, name: str, needs: list[Resolved]) -> Resolved:
        """What the body and all that follows from it come to."""
        shape = self._shape(name)
        found: dict[int, Resolved] = {}

        def value(job: int) -> Resolved:
            if job not in found:
                self.names.add(f"{name}/{job}")
                found[job] = self._value(f"{name}/{job}", [value(need) for need in shape.needs[job]])
            return found[job]

        for job in range(len(shape.needs)):
            value(job)
        if shape.alias:
            return found[shape.refs[0]]
        return [number(name, needs), *(found[ref] for ref in shape.refs)]

    def _jobs(self, name: str, shape: Shape) -> list[NewJob]:
        return [
            NewJob(
                kind="job",
                name=f"{name}/{job}",
                needs=needs,
                body=blob(f"{name}/{job}"),
                resources=Resources(memory=1 << 20),
                retries=self._retries if job % 2 else -1,
            )
            for job, needs in enumerate(shape.needs)
        ]

    def plan(self) -> Plan:
        """What the workflow function leaves behind."""
        outcome = self._outcome("main", [])
        return Plan(value=outcome.value, refs=outcome.refs, alias=outcome.alias, jobs=outcome.jobs)

    def body(self, attempt: Attempt) -> Outcome:
        """What an attempt leaves behind when all goes well."""
        name = json.loads(attempt.body.data)
        assert name == attempt.name
        return self._outcome(name, [resolve(attempt.values, need) for need in attempt.needs])

    def _outcome(self, name: str, needs: list[Resolved]) -> Outcome:
        shape = self._shape(name)
        value = blob([number(name, needs), *({"job": k} for k in range(len(shape.refs)))])
        return Outcome(
            key="",
            reason=Reason.FINISHED,
            value=Blob() if shape.alias else value,
            refs=shape.refs,
            alias=shape.alias,
            jobs=self._jobs(name, shape),
        )
