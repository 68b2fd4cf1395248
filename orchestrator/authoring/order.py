"""Can the jobs of a graph be put in an order? What waits for what, and what to say if some wait for each other.

What has to come after what is a graph of its own, with up to four moments for each job:

    BODY   its body has run, its value is known      after what it needs, its parents' UP, the OVER of what it follows
    UP     its services are up, children may start   after its BODY, and its services' BODY
    OVER   all below its children is over            after its UP, and the DONE of its children
    DONE   all that follows from it is over          after its OVER, the DONE of its follow-ons, and the BODY of all
                                                     that take the credentials of its services, wherever they are

A moment that has nothing of its own is the one before it. `MAKER` is in the graph like any job: whoever makes the jobs,
whose children are all that have no other place. Of those, the ones that come before its first service in the list, and
so all that this needs, do not wait for its services.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from orch.attempt import MAKER, NewJob
from orch.errors import GraphError

NEED = "need"
_MOST = 8

Edge = tuple[str, str, str]
"""Names of two jobs, and what the first one is to the second: NEED (it needs the value), "child", "follow-on" …"""

Moment = tuple[int, int]
BODY, UP, OVER, DONE = range(4)


def describe(cycle: Sequence[Edge]) -> GraphError:
    """What to say about jobs that wait for each other: each edge begins where the one before it ends."""
    if all(relation == NEED for _, relation, _ in cycle):
        return _values([name for name, _, _ in cycle])
    needs = [position for position, edge in enumerate(cycle) if edge[1] == NEED]
    if not needs:
        return GraphError(f"these jobs wait for each other: {_told(cycle)}")
    first = needs[0]
    consumer, _, producer = cycle[first]
    rest = [*cycle[first + 1 :], *cycle[:first]]
    return GraphError(
        f"job {consumer} waits for the value of {producer}, which can only be known after {consumer} itself: "
        f"{_told(rest)}"
    )


def _values(names: list[str]) -> GraphError:
    if len(names) == 1:
        return GraphError(f"job {names[0]} needs its own value: it stands in its own arguments")
    if len(names) > _MOST:
        names[4:-3] = ["…"]
    return GraphError(
        f"these jobs wait for each other: {' → '.join([*names, names[0]])} (each needs the next one's value)"
    )


def _told(edges: Sequence[Edge]) -> str:
    told = [
        f"{lower} needs the value of {upper}" if relation == NEED else f"{lower} is a {relation} of {upper}"
        for lower, relation, upper in edges
    ]
    told = list(dict.fromkeys(told))
    if len(told) > _MOST:
        told[4:-3] = ["…"]
    return "; ".join(told)


def check_order(jobs: Sequence[NewJob], maker: str) -> None:
    """Raise `GraphError` if some of the jobs wait for each other by way of follow-ons or services.

    `maker` is how whoever makes them is called. Linear, and iterative: graphs are deep. To be called for jobs whose
    direct relations have no cycle; without follow-ons and services there is nothing more to find.
    """
    if any(job.follows or job.serves is not None for job in jobs):
        cycle = _Order(jobs, maker).cycle()
        if cycle:
            raise describe(cycle)


class _Order:
    def __init__(self, jobs: Sequence[NewJob], maker: str) -> None:
        self._jobs = jobs
        self._maker = maker
        self._children: dict[int, list[int]] = defaultdict(list)
        self._follow_ons: dict[int, list[int]] = defaultdict(list)
        self._services: dict[int, list[int]] = defaultdict(list)
        self._users: dict[int, list[int]] = defaultdict(list)  # of its services
        for number, job in enumerate(jobs):
            self._enter(number, job)
            for need in job.needs:
                host = jobs[need].serves
                if host is not None:
                    self._users[host].append(number)

    def _enter(self, number: int, job: NewJob) -> None:
        if job.serves is not None:
            self._services[job.serves].append(number)
            return
        for upper in _parents(job):
            self._children[upper].append(number)
        for upper in job.follows:
            self._follow_ons[upper].append(number)

    # Moments: the latest one that is not the same as the one before it ----------------------------------------------

    def _up(self, number: int) -> Moment:
        return (number, UP if number in self._services else BODY)

    def _over(self, number: int) -> Moment:
        return (number, OVER) if number in self._children else self._up(number)

    def _done(self, number: int) -> Moment:
        return (number, DONE) if number in self._follow_ons or number in self._users else self._over(number)

    def _after(self, moment: Moment) -> Iterator[tuple[Moment, str]]:
        """The moments that this one comes directly after, each with the relation that is the reason."""
        number, kind = moment
        if kind == UP:
            yield (number, BODY), ""
            yield from (((service, BODY), "service") for service in self._services[number])
        elif kind == OVER:
            yield self._up(number), ""
            yield from ((self._done(child), "child") for child in self._children[number])
        elif kind == DONE:
            yield self._over(number), ""
            yield from ((self._done(one), "follow-on") for one in self._follow_ons[number])
            yield from (((user, BODY), "user of a service") for user in self._users[number])
        elif number != MAKER:
            yield from self._before_body(number, self._jobs[number])

    def _before_body(self, number: int, job: NewJob) -> Iterator[tuple[Moment, str]]:
        yield from (((need, BODY), NEED) for need in job.needs)
        if job.serves is not None:
            yield (job.serves, BODY), "service"
            yield from (((parent, BODY), "dependant") for parent in job.parents)
        else:
            yield from ((self._up(parent), "child") for parent in job.parents)
            yield from ((self._over(one), "follow-on") for one in job.follows)
            if MAKER in self._services and self._services[MAKER][0] < number and MAKER in _parents(job):
                yield (MAKER, UP), "child"

    # The search -----------------------------------------------------------------------------------------------------

    def cycle(self) -> list[Edge]:
        """Relations that go round in a circle; none if there is no circle."""
        finished: set[Moment] = set()
        for number in range(len(self._jobs)):
            found = self._from((number, BODY), finished)
            if found:
                return found
        return []

    def _from(self, start: Moment, finished: set[Moment]) -> list[Edge]:
        if start in finished:
            return []
        path: list[tuple[Moment, Iterator[tuple[Moment, str]]]] = [(start, self._after(start))]
        reasons: dict[Moment, str] = {start: ""}  # of those on the path: why the next one comes before it
        while path:
            moment, rest = path[-1]
            for before, reason in rest:
                if before in finished:
                    continue
                reasons[moment] = reason
                if before in reasons:
                    return self._edges([step[0] for step in path], before, reasons)
                reasons[before] = ""
                path.append((before, self._after(before)))
                break
            else:
                path.pop()
                del reasons[moment]
                finished.add(moment)
        return []

    def _edges(self, path: list[Moment], again: Moment, reasons: dict[Moment, str]) -> list[Edge]:
        """As the jobs see it: a moment of OVER waits for a child's, but it is the child that is one."""
        circle = path[path.index(again) :]
        edges: list[Edge] = []
        for moment, before in zip(circle, [*circle[1:], circle[0]], strict=True):
            if reasons[moment]:
                names = self._name(moment[0]), self._name(before[0])
                lower, upper = names if moment[1] == BODY else names[::-1]
                edges.append((lower, reasons[moment], upper))
        return edges

    def _name(self, number: int) -> str:
        if number == MAKER:
            return self._maker
        return self._jobs[number].name or self._jobs[number].kind


def _parents(job: NewJob) -> Sequence[int]:
    """Of a job that is no service: a job without a place is a child of whoever makes it."""
    return job.parents or (() if job.follows else (MAKER,))
