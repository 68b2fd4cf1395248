"""What a job is to other jobs beside a taker of their values: a child, a follow-on, a service, a capsule.

What can be seen to be wrong when two jobs are related is refused there and then, at the user's line. The rest (cycles,
jobs that nothing leads to) is found when the graph is collected.
"""

from __future__ import annotations

from typing import TypeVar

from orch.authoring import scope
from orch.authoring.nodes import FOLLOW_ON, Call, Job
from orch.authoring.options import DEFAULT
from orch.errors import GraphError, JobError, UserError

T = TypeVar("T")

CHILD = "child"
SERVICE = "service"
AFTER = "dependant"
"""Of a service: it starts after another service, its parent."""

_END = ": end"


class Ties:
    """The relations of one job.

    `above`  the jobs that it is tied to, and what it is to each: CHILD … None in place of a job: whoever makes it
    `below`  the jobs that are tied to it
    `front`  of a capsule's end: its begin, which is what comes after other jobs
    """

    __slots__ = ("above", "below", "front")

    def __init__(self) -> None:
        self.above: dict[Call | None, str] = {}
        self.below: list[Call] = []
        self.front: Call | None = None


def ties_of(call: Call) -> Ties:
    """The ties of a job, made where there are none yet."""
    if call.ties is None:
        call.ties = Ties()
    return call.ties


def add(upper: Call | None, other: T, relation: str) -> T:
    """Make the job `other` a child or follow-on of `upper` (None: the running job); gives `other`."""
    if not isinstance(other, Job):
        from orch.authoring.pickling import misplaced  # only for a mistake

        hint = (
            misplaced(other)
            or _service(other)
            or f"{other!r:.80} is no job: a job is what calling a job function gives"
        )
        raise UserError(f"add_{relation.replace('-', '_')}: {hint}")
    lower = other._call  # noqa: SLF001 - one unit with nodes.py
    if lower is None:
        raise JobError(f"{other!r} cannot be its own {relation}")
    check(upper, lower, relation)
    tie(upper, (lower.ties and lower.ties.front) or lower, relation)
    return other


def _service(other: object) -> str:
    from orch.authoring.services import Service  # only for a mistake

    return (
        f"{type(other).__qualname__} is a service: it is added with add_service" if isinstance(other, Service) else ""
    )


def check(upper: Call | None, lower: Call, relation: str) -> None:
    """Raise `GraphError` for a relation that cannot be."""
    if upper is lower:
        raise GraphError(f"job {lower.label} cannot be its own {relation}")
    if lower.form == "service":
        raise GraphError(
            f"service {lower.label} cannot be a {relation} of {_label(upper)}: a service runs for the job that it was "
            f"added to, {_served(lower)}"
        )
    check_upper(upper, lower, relation)


def check_upper(upper: Call | None, lower: Call, relation: str) -> None:
    """Raise `GraphError` if nothing, or not this, may be added to `upper`."""
    if upper is None:
        _check_running(lower, relation)
    for call in (lower,) if upper is None else (upper, lower):
        if call.scope != scope.current():
            raise GraphError(_strange(upper, lower, relation, call))
    if upper is None:
        return
    if upper.form == "service":
        raise GraphError(
            f"{lower.label} cannot be a {relation} of service {upper.label}: a service has none of its own. Add it to "
            f"the job that the service is for, {_served(upper)}"
        )
    if upper.options.checkpoint:
        raise GraphError(
            f"{lower.label} cannot be a {relation} of job {upper.label}, which is a checkpoint: what belongs to that "
            f"is what it makes itself. Make it in there, or add it to {upper.label}.encapsulate()"
        )


def _check_running(lower: Call, relation: str) -> None:
    """Raise `JobError` unless something runs here that may make jobs."""
    from orch.work.context import current  # it is there: something runs

    who = current(f"adding {lower.label} as a {relation}").who
    if who.form == "service":
        raise JobError(f"{lower.label} cannot be a {relation} of {who.label}: a service makes no jobs")


def tie(upper: Call | None, lower: Call, relation: str) -> None:
    """Write the relation down. Raises `GraphError` where there is one between the two already."""
    above = ties_of(lower).above
    if upper in above:
        again = f"already a {above[upper]} of {_label(upper)}"
        also = "" if above[upper] == relation else f" and cannot be a {relation} as well"
        raise GraphError(f"job {lower.label} is {again}{also}")
    above[upper] = relation
    if upper is not None:
        ties_of(upper).below.append(lower)


def encapsulate(inner: Call) -> Call:
    """The end of a capsule around a job: it follows all that comes from the job, and has its value."""
    if inner.form == "service":
        raise GraphError(f"service {inner.label} cannot be encapsulated: it runs for {_served(inner)}")
    label = inner.label.removesuffix(_END) if inner.form == "group" else inner.label  # names do not grow with depth
    begin = Call("capsule", None, (), {}, DEFAULT, name=f"{label}: begin", form="group", depth=3)
    end = Call("capsule", None, (inner,), {}, DEFAULT, name=f"{label}{_END}", form="group", depth=3)
    tie(begin, (inner.ties and inner.ties.front) or inner, CHILD)
    tie(begin, end, FOLLOW_ON)
    ties_of(end).front = begin
    return end


def _label(call: Call | None) -> str:
    if call is not None:
        return f"job {call.label}"
    from orch.work.context import current  # only for a mistake

    return current("adding a job").who.label


def _served(service: Call) -> str:
    assert service.ties is not None
    return next(_label(call) for call, relation in service.ties.above.items() if relation is SERVICE)


def _strange(upper: Call | None, lower: Call, relation: str, strange: Call) -> str:
    """A job that is not of the graph which is being made."""
    from orch.work.traces import shown_name  # only for a mistake

    file, line = strange.where
    where = "outside of the workflow function and of any job" if not strange.scope else "by another run or attempt"
    return (
        f"{lower.label} cannot be a {relation} of {'the running job' if upper is None else upper.label}: job "
        f"{strange.label} was made {where}, at {shown_name(file)}:{line}. Make both where they are added to each other"
    )
