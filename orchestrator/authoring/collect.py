"""From what a workflow function or a job body returned to the jobs that must be added, numbered and pickled.

The graph is walked iteratively, one pickle a job, in time linear in its size: a job's body holds numbers in place of
the jobs it needs, so no pickle goes deeper than one job's arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from orch.attempt import MAKER, NewJob
from orch.authoring.nodes import FOLLOW_ON, Call, Job
from orch.authoring.options import Options
from orch.authoring.pickling import Dumped, dump_call, dumps, explain
from orch.bus.events import EMPTY, Blob
from orch.errors import GraphError, WorkflowError

Keep = Callable[[str, bytes], Blob]
"""`keep("body7", data)`: the bytes as a blob; large ones go to the store, under that name."""


class Collected(msgspec.Struct, gc=False):
    """Fields as in `orch.attempt.Outcome`."""

    value: Blob = EMPTY
    refs: list[int] = []
    alias: bool = False
    jobs: list[NewJob] = []
    warnings: list[str] = []


def collect(value: Any, made: Sequence[Call], keep: Keep, where: Callable[[str], str] = str) -> Collected:
    """The parts of an outcome whose value is `value`. `made` are the calls to be accounted for.

    Those are added that stand in the value or were added to the running job, and all that these are related to.
    `where` gives the name under which a user knows a source file. Raises `WorkflowError` where something cannot be
    pickled, naming the job and the way to it, and `GraphError` for jobs that wait for each other, or that are related
    to others and yet belong to nothing.
    """
    if isinstance(value, Job) and value._call is not None and not value._path:  # noqa: SLF001 - one unit with nodes.py
        refs, blob, alias = [value._call], EMPTY, True  # noqa: SLF001 - one unit with nodes.py
    else:
        try:
            data, refs = dumps(value)
        except Exception as error:  # user code in __reduce__ may raise anything
            raise WorkflowError(explain("the returned value", value, error)) from error
        blob, alias = keep("value", data), False
    graph = _Graph(keep)
    for call in refs:
        graph.add(call)
    for call in made:
        if call.ties is not None and None in call.ties.above:  # added to the running job
            graph.add(call)
    warnings = graph.check()
    if len(made) > len(graph.jobs):
        warnings = [*_left_over(made, graph.numbers, where), *warnings]
    return Collected(
        value=blob,
        refs=[graph.numbers[call] for call in refs],
        alias=alias,
        jobs=graph.jobs,
        warnings=warnings,
    )


class _Graph:
    """Numbers jobs such that each comes after what it needs and what it is a child, a follow-on or a service of."""

    def __init__(self, keep: Keep) -> None:
        self.jobs: list[NewJob] = []
        self.numbers: dict[Call, int] = {}
        self._keep = keep
        self._below: deque[list[Call]] = deque()
        self._settings: dict[int, dict[str, Any]] = {}
        self._ordered = True  # do the direct relations say all that there is to say about order?

    def add(self, root: Call) -> None:
        """Add `root` and everything that it is related to and that is not there yet."""
        self._visit(root)
        while self._below:
            for call in self._below.popleft():
                self._visit(call)

    def check(self) -> list[str]:
        """Warnings. Raises `GraphError` for jobs that wait for each other by way of follow-ons or services."""
        if self._ordered:
            return []
        from orch.authoring.order import check_order  # few graphs have those
        from orch.authoring.outsiders import outsiders

        check_order(self.jobs, _maker())
        return outsiders(self.jobs)

    def _visit(self, root: Call) -> None:
        """Add `root` and all that it comes after."""
        if root in self.numbers:
            return
        path: list[tuple[Call, Dumped, list[Call], int]] = []  # calls being visited, and which one above is next
        visiting = {root}
        path.append(_begun(root))
        while path:
            call, dumped, above, position = path.pop()
            while position < len(above) and above[position] in self.numbers:
                position += 1
            if position == len(above):
                visiting.discard(call)
                self._finish(call, dumped)
                continue
            path.append((call, dumped, above, position + 1))
            upper = above[position]
            if upper in visiting:
                raise _cycle([step[0] for step in path], upper)
            visiting.add(upper)
            path.append(_begun(upper))

    def _finish(self, call: Call, dumped: Dumped) -> None:
        number = self.numbers[call] = len(self.jobs)
        more = self._settings.get(id(call.options))
        if more is None:
            more = self._settings[id(call.options)] = _settings(call.options)
        if dumped.wanted:
            more = {**more, "wanted": self._keep(f"wanted{number}", dumped.wanted)}
        if call.ties is not None:
            more = {**more, **self._relations(call)}
        self.jobs.append(
            NewJob(
                kind=call.kind,
                name=call.name,
                needs=[self.numbers[need] for need in dumped.needs],
                form=call.form,
                body=self._keep(f"body{number}", dumped.body) if dumped.body else EMPTY,
                **more,
            )
        )

    def _relations(self, call: Call) -> dict[str, Any]:
        from orch.authoring.relations import SERVICE  # it is there: the job has relations

        assert call.ties is not None
        if call.ties.below:
            self._below.append(call.ties.below)
        found: dict[str, Any] = {}
        for upper, relation in call.ties.above.items():
            number = MAKER if upper is None else self.numbers[upper]
            if relation is SERVICE:
                found["serves"] = number
            else:
                found.setdefault("follows" if relation is FOLLOW_ON else "parents", []).append(number)
            self._ordered = self._ordered and relation not in (FOLLOW_ON, SERVICE)
        return found


def _begun(call: Call) -> tuple[Call, Dumped, list[Call], int]:
    dumped = dump_call(call)
    if call.ties is None:
        return call, dumped, dumped.needs, 0
    return call, dumped, [*dumped.needs, *(upper for upper in call.ties.above if upper is not None)], 0


def _settings(options: Options) -> dict[str, Any]:
    """The fields of a new job that its options say, but for those at their default: most are."""
    every = {
        "resources": options.resources,
        "retries": options.retries,
        "retry": options.retry,
        "checkpoint": options.checkpoint,
        "cache": True if options.cache is None and options.version else options.cache,
        "version": options.version,
        "priority": options.priority,
        "local": options.local,
        "preemptible": options.preemptible,
    }
    return {name: value for name, value in every.items() if value != _DEFAULTS[name]}


_DEFAULTS = dict(
    zip(NewJob.__struct_fields__[-len(NewJob.__struct_defaults__) :], NewJob.__struct_defaults__, strict=True)
)


def _cycle(path: list[Call], again: Call) -> GraphError:
    from orch.authoring.order import NEED, describe  # only for a mistake

    circle = path[path.index(again) :]
    edges = []
    for lower, upper in zip(circle, [*circle[1:], again], strict=True):
        above = lower.ties.above if lower.ties else {}
        edges.append((lower.label, above.get(upper, NEED), upper.label))
    return describe(edges)


def _left_over(made: Sequence[Call], used: dict[Call, int], where: Callable[[str], str]) -> list[str]:
    from orch.authoring.leftovers import left_over  # only for what looks like a mistake

    return left_over(made, used, where)


def _maker() -> str:
    from orch.work.context import running  # few graphs need it

    return running(workflow=True) or "the job that makes it"
