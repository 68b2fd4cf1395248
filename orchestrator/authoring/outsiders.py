"""Jobs that take what a service gave, and are not among those that it runs for: it may have stopped when they run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from orch.attempt import MAKER, NewJob

_MOST = 8
_ASSEMBLED = "result"
"""The job that puts a workflow's value together only looks at credentials."""


def outsiders(jobs: Sequence[NewJob]) -> list[str]:
    """A warning for each such job. Whatever a job makes runs while that job's own services do."""
    served = {number: new.serves for number, new in enumerate(jobs) if new.serves not in (None, MAKER)}
    below: dict[int, set[int]] = {}
    found = []
    for number, new in enumerate(jobs) if served else ():
        for need in new.needs:
            owner = served.get(need)
            if owner is None or owner in new.parents or owner in new.follows or new.kind == _ASSEMBLED:
                continue
            if owner not in below:
                below[owner] = _below(jobs, owner)
            if number not in below[owner]:
                found.append(_warning(new, jobs[need], jobs[owner]))
    return [*found[:_MOST], f"… and {len(found) - _MOST} such jobs more"] if len(found) > _MOST else found


def _below(jobs: Sequence[NewJob], top: int) -> set[int]:
    """What a job's services run for: its children, follow-ons and services, and all below those."""
    under: dict[int, list[int]] = defaultdict(list)
    for number, new in enumerate(jobs):
        for upper in (*new.parents, *new.follows) if new.serves is None else (new.serves,):
            under[upper].append(number)
    found: set[int] = set()
    todo = [top]
    while todo:
        new_ones = [number for number in under[todo.pop()] if number not in found]
        found.update(new_ones)
        todo += new_ones
    return found


def _warning(job: NewJob, service: NewJob, owner: NewJob) -> str:
    job_name, service_name, owner_name = (one.name or one.kind for one in (job, service, owner))
    return (
        f"job {job_name} takes what service {service_name} gave, which may have stopped by then: it runs for what is "
        f"below job {owner_name} only. Add {job_name} to that as a child"
    )
