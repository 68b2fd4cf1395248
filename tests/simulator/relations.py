"""What must hold of jobs that are more to each other than values: seen from events and bodies, without the fold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from orch.attempt import Attempt
from orch.bus import events as ev
from orch.bus.events import Resources
from orch.leader.supply import SURVEY_CORES
from orch.state.decide import parse_key

if TYPE_CHECKING:
    from simulator.process import Process


class Relations:
    """Of one run. `wrong` hears of what must not be.

    `failed`   how often each job has failed for good, by name
    `reused`   names of jobs that took the value of an earlier call
    `dropped`  numbers of jobs that have been dropped
    `removed`  paths of files that nobody needs any more
    """

    def __init__(self, wrong: Callable[[str], None]) -> None:
        self.failed: Counter[str] = Counter()
        self.reused: set[str] = set()
        self.dropped: set[int] = set()
        self.removed: set[str] = set()
        self.added: dict[int, ev.Added] = {}
        self._wrong = wrong
        self._provisional: dict[tuple[int, int], list[ev.Added]] = {}
        self._made: dict[int, list[int]] = {}
        self._children: dict[int, list[int]] = {}
        self._follow_ons: dict[int, list[int]] = {}
        self._services: dict[int, list[int]] = {}
        self._users: dict[int, list[int]] = {}
        self._over: set[int] = set()  # their bodies have succeeded
        self._up: dict[int, int] = {}  # services, with the attempt that gave the credentials
        self._have_been_up: set[int] = set()
        self._resources: dict[int, ev.Resources] = {}
        self._generations: dict[str, dict[int, int]] = {}
        self._live: dict[str, ev.Submitting] = {}
        self._due: dict[int, tuple[Process, float]] = {}

    # Events ------------------------------------------------------------------------------------------------------

    def know(self, event: ev.Event) -> None:  # noqa: C901, PLR0912 - a case each
        """An event is durable."""
        match event:
            case ev.Opened():
                self._provisional.clear()
            case ev.Added():
                self.added[event.job] = event
                self._resources[event.job] = event.resources
                self._provisional.setdefault((event.by, event.attempt), []).append(event)
            case ev.Planned():
                self._commit(0, 0)
            case ev.Submitting():
                self._intend(event)
            case ev.Serving():
                self._up[event.job] = event.attempt
                self._have_been_up.add(event.job)
            case ev.Succeeded():
                self._commit(event.job, event.attempt)
                self._over.add(event.job)
                self._up.pop(event.job, None)  # a service ends well only when it is not needed any more
                self._ended(event)
            case ev.Surveyed():
                self._resources[event.job] = event.resources
                self._ended(event)
            case ev.Reused():
                self._over.add(event.job)
                self.reused.add(self.added[event.job].name)
            case ev.Retrying():
                self._resources[event.job] = event.resources or self._resources[event.job]
                self._up.pop(event.job, None)
                self._ended(event)
            case ev.Failed():
                self.failed[self.added[event.job].name] += 1
                self._up.pop(event.job, None)
                self._ended(event)
            case ev.Cancelled():
                self._up.pop(event.job, None)
                self._ended(event)
            case ev.Restarted():
                self._over -= {job for job in self._over if self.added[job].form == "service"}  # needed again, or not
            case ev.Rewound():
                self._rewound(event)
            case ev.Removed():
                self._removed(event)
            case ev.Abandoned():
                self._wrong(f"event {event.seq}: the run is given up: {event.message}")
            case _:
                pass

    def _commit(self, by: int, attempt: int) -> None:
        for job in self._provisional.pop((by, attempt), ()):
            self._made.setdefault(by, []).append(job.job)
            for need in job.needs:
                self._users.setdefault(need, []).append(job.job)
            if job.serves >= 0:
                self._services.setdefault(job.serves, []).append(job.job)
                continue
            for parent in job.parents or ([] if job.follows else [by]):
                self._children.setdefault(parent, []).append(job.job)
            for followed in job.follows:
                self._follow_ons.setdefault(followed, []).append(job.job)

    def _intend(self, event: ev.Submitting) -> None:
        if event.job in self.dropped:
            self._wrong(f"event {event.seq} intends {event.key}, and that job was dropped")
        self._live[event.key] = event
        services = [need for need in self.added[event.job].needs if self.added[need].form == "service"]
        down = [need for need in services if need not in self._up]
        if down:
            self._wrong(f"event {event.seq} intends {event.key}, and the services {down} that it needs are not up")
        self._generations[event.key] = {need: self._up[need] for need in services if need in self._up}

    def _ended(self, event: ev.Succeeded | ev.Surveyed | ev.Retrying | ev.Failed | ev.Cancelled) -> None:
        if event.job in self.dropped and not isinstance(event, ev.Cancelled):
            self._wrong(f"event {event.seq} is about job {event.job}, which was dropped")
        for key, live in list(self._live.items()):
            if live.job == event.job:
                del self._live[key]
            elif live.after == event.job and (not isinstance(event, ev.Succeeded) or event.added):
                del self._live[key]  # it is void

    def _rewound(self, event: ev.Rewound) -> None:
        below = set(self._made_below(event.job))
        self.dropped |= below
        self._over -= {event.job, *below}
        self._made.pop(event.job, None)
        for related in (self._children, self._follow_ons, self._services, self._users):
            for job, others in related.items():
                related[job] = [other for other in others if other not in below]

    def _made_below(self, job: int) -> Iterator[int]:
        for made in self._made.get(job, ()):
            yield made
            yield from self._made_below(made)

    def below(self, job: int) -> Iterator[int]:
        """All jobs below one: its children and follow-ons, and so on. Services left out."""
        for child in (*self._children.get(job, ()), *self._follow_ons.get(job, ())):
            yield child
            yield from self.below(child)

    def _is_over(self, job: int) -> bool:
        """Is its body over? One without a body is over when what it waits for is, and nobody can see that."""
        return job in self._over or self.added[job].form == "group"

    def _removed(self, event: ev.Removed) -> None:
        self.removed |= set(event.files)
        for user in (event.job, *self._users.get(event.job, ())):
            for job in (user, *self.below(user)):
                if not self._is_over(job) and self.added[job].form != "service":
                    self._wrong(f"event {event.seq} removes files of job {event.job}, and job {job} may need them")

    # Attempts ----------------------------------------------------------------------------------------------------

    def submitted(self, attempt: Attempt) -> None:
        """A leader hands an attempt over: with what it asks for, and credentials that are no older than intended."""
        wanted = Resources(cores=SURVEY_CORES) if attempt.survey else self._resources[attempt.job]
        if attempt.resources != wanted:
            self._wrong(f"{attempt.key} is handed over with {attempt.resources}, and is to have {wanted}")
        for service, generation in self._generations.get(attempt.key, {}).items():
            given = json.loads(attempt.values[service].blob.data)[2]
            if given < generation:
                self._wrong(f"{attempt.key} is given credentials of attempt {given} of service {service}, "
                            f"and attempt {generation} is up")  # fmt: skip

    def body_started(self, attempt: Attempt, running: dict[str, Attempt]) -> None:
        """A body begins: may it, and has all ended that a checkpoint has dropped?"""
        job = self.added.get(attempt.job)
        if job is None or attempt.job in self.dropped:
            return  # a power cut has taken the job away; or it was on its way when it was dropped, and will be ended
        before = parse_key(attempt.after)[1] if attempt.after else 0
        if job.serves < 0:
            self._in_order(attempt, job, before)
        elif any(parent not in self._have_been_up for parent in job.parents):
            self._wrong(f"{attempt.key} starts before the services {job.parents}")
        for other in running.values():
            if job.checkpoint and other.job in self.dropped and self._is_made_below(other.job, attempt.job):
                self._wrong(f"{attempt.key} starts again while {other.key}, which was dropped, runs")

    def _in_order(self, attempt: Attempt, job: ev.Added, before: int) -> None:
        for parent in job.parents:
            if parent and parent != before and not self._is_over(parent):
                self._wrong(f"{attempt.key} starts before its parent {parent} is over")
            for service in self._services.get(parent, ()):
                if service not in self._have_been_up:
                    self._wrong(f"{attempt.key} starts before the service {service} of its parent is up")
        for followed in job.follows:
            for child in self._children.get(followed, ()):
                for lower in (child, *self.below(child)):
                    if not self._is_over(lower):
                        self._wrong(f"{attempt.key} starts before job {lower}, below what it follows, is over")

    def _is_made_below(self, job: int, maker: int) -> bool:
        while job and job != maker:
            job = self.added[job].by
        return job == maker

    # Back-off ----------------------------------------------------------------------------------------------------

    def staged(self, process: Process, event: ev.Event, now: float) -> None:
        """A leader is about to write an event; `now`: virtual seconds."""
        if isinstance(event, ev.Retrying | ev.Rewound) and event.wait > 0:
            self._due[event.job] = (process, now + event.wait)
        elif isinstance(event, ev.Submitting) and event.job in self._due:
            leader, due = self._due.pop(event.job)
            if leader is process and now < due - 1e-6:
                self._wrong(f"{event.key} is intended {due - now:.3f} s before its back-off is over")
