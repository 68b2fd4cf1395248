"""Random new jobs, with every relation that there is between jobs, and never one that waits for itself."""

from __future__ import annotations

import random

from orch.attempt import MAKER, NewJob
from orch.authoring.order import check_order
from orch.bus.events import Blob
from orch.errors import GraphError

WANTED = Blob(data=b"{}", size=2)
"""Of a job that asks for what depends on values."""

TRIES = 30


def random_jobs(chance: random.Random, most: int, *, least: int = 0, services: int = 1) -> list[NewJob]:
    """From `least` up to `most` jobs of one attempt, some with children, follow-ons, services, or without a body.

    `services`: how many of them there are for seven plain jobs, about.
    """
    for _ in range(TRIES):
        jobs = _jobs(chance, chance.randint(min(least, most), most), services)
        try:
            check_order(jobs, "the maker")
        except GraphError:
            continue
        return jobs
    return []


def _jobs(chance: random.Random, count: int, services: int) -> list[NewJob]:
    order = list(range(count))
    chance.shuffle(order)
    found: dict[int, NewJob] = {}
    for job in order:
        found[job] = _job(chance, found, services)
    return [found[job] for job in range(count)]


def _job(chance: random.Random, before: dict[int, NewJob], services: int) -> NewJob:
    """One more job, which may come after those before it."""
    plain = [job for job, record in before.items() if record.form != "service"]
    hosts = [MAKER, *(job for job in plain if not before[job].checkpoint)]
    form = chance.choice([*["fork"] * 7, *["service"] * services, "group"])
    retries, priority = chance.randint(0, 3), chance.choice([0, 0, 0, 1])
    if form == "service":
        serves = chance.choice(hosts)
        beside = [job for job, record in before.items() if record.serves == serves]
        return NewJob(
            kind="service", form=form, serves=serves, parents=_some(chance, beside, 0.5),
            needs=_some(chance, plain, 0.2) if serves == MAKER else [], retries=retries,
        )  # fmt: skip
    parents = _some(chance, hosts, 0.2)
    follows = [job for job in _some(chance, hosts, 0.15) if job not in parents]
    if form == "group":
        needs = [chance.choice(plain)] if plain and chance.random() < 0.7 else []
        return NewJob(kind="group", form=form, needs=needs, parents=parents, follows=follows)
    return NewJob(
        kind="job",
        needs=[need for need in _some(chance, list(before), 0.3) if _may_use(before, need, [*parents, *follows])],
        parents=parents,
        follows=follows,
        retries=retries,
        priority=priority,
        local=chance.random() < 0.1,
        checkpoint=chance.random() < 0.25,
        wanted=WANTED if chance.random() < 0.1 else Blob(),
        cache=chance.random() < 0.1,
    )


def _may_use(before: dict[int, NewJob], need: int, above: list[int]) -> bool:
    """Is it no service, or one of a job above? One elsewhere would not be there again in a run that is carried on."""
    host = before[need].serves
    return host is None or host == MAKER or any(_is_below(before, job, host) for job in above)


def _is_below(before: dict[int, NewJob], job: int, host: int) -> bool:
    if job in (host, MAKER):
        return job == host
    return any(_is_below(before, upper, host) for upper in (*before[job].parents, *before[job].follows))


def passable(jobs: list[NewJob]) -> list[int]:
    """Those whose values can stand in the value of their maker: not what comes after the maker's other children.

    Such a value would be waited for by children of the maker that others have made.
    """
    late: set[int] = set()
    for _ in jobs:
        late |= {number for number, job in enumerate(jobs) if MAKER in job.follows or late & set(_before(job))}
    return [number for number, job in enumerate(jobs) if number not in late and job.form != "service"]


def _before(job: NewJob) -> list[int]:
    return [*job.needs, *job.parents, *job.follows, *([] if job.serves is None else [job.serves])]


def _some(chance: random.Random, jobs: list[int], share: float) -> list[int]:
    return [job for job in jobs if chance.random() < share]
