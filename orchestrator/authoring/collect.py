"""From what a workflow function or a job body returned to the jobs that must be added, numbered and pickled.

The graph is walked iteratively, one pickle a job, in time linear in its size: a job's body holds numbers in place of
the jobs it needs, so no pickle goes deeper than one job's arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from orch.attempt import NewJob
from orch.authoring.nodes import Call, Job
from orch.authoring.pickling import dump_call, dumps, explain
from orch.bus.events import EMPTY, Blob
from orch.errors import GraphError, WorkflowError

Keep = Callable[[str, bytes], Blob]
"""`keep("body7", data)`: the bytes as a blob; large ones go to the store, under that name."""

_MOST_WARNINGS = 20


class Collected(msgspec.Struct, gc=False):
    """Fields as in `orch.attempt.Outcome`."""

    value: Blob = EMPTY
    refs: list[int] = []
    alias: bool = False
    jobs: list[NewJob] = []
    warnings: list[str] = []


def collect(value: Any, made: Sequence[Call], keep: Keep, where: Callable[[str], str] = str) -> Collected:
    """The parts of an outcome whose value is `value`. `made` are the calls to be accounted for.

    `where` gives the name under which a user knows a source file. Raises `WorkflowError` where something cannot be
    pickled, naming the job and the way to it, and `GraphError` for jobs that wait for each other.
    """
    if type(value) is Job and not value._path:  # noqa: SLF001 - one unit with nodes.py
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
    return Collected(
        value=blob,
        refs=[graph.numbers[call] for call in refs],
        alias=alias,
        jobs=graph.jobs,
        warnings=_unused(made, graph.numbers, where) if len(made) > len(graph.jobs) else [],
    )


class _Graph:
    """Numbers jobs such that each comes after what it needs."""

    def __init__(self, keep: Keep) -> None:
        self.jobs: list[NewJob] = []
        self.numbers: dict[Call, int] = {}
        self._keep = keep

    def add(self, root: Call) -> None:
        """Add `root` and everything that it needs and that is not there yet."""
        if root in self.numbers:
            return
        path: list[tuple[Call, bytes, list[Call], int]] = []  # calls being visited, and which need is next
        visiting = {root}
        path.append((root, *dump_call(root), 0))
        while path:
            call, body, needs, position = path.pop()
            while position < len(needs) and needs[position] in self.numbers:
                position += 1
            if position == len(needs):
                visiting.discard(call)
                self._finish(call, body, needs)
                continue
            path.append((call, body, needs, position + 1))
            need = needs[position]
            if need in visiting:
                raise _cycle([step[0] for step in path], need)
            visiting.add(need)
            path.append((need, *dump_call(need), 0))

    def _finish(self, call: Call, body: bytes, needs: list[Call]) -> None:
        number = self.numbers[call] = len(self.jobs)
        self.jobs.append(
            NewJob(
                kind=call.kind,
                name=call.name,
                needs=[self.numbers[need] for need in needs],
                form=call.form,
                body=self._keep(f"body{number}", body),
                resources=call.options.resources,
                retries=call.options.retries,
            )
        )


def _cycle(path: list[Call], again: Call) -> GraphError:
    names = [call.label for call in path[path.index(again) :]]
    if len(names) == 1:
        return GraphError(f"job {names[0]} needs its own value: it stands in its own arguments")
    if len(names) > 8:
        names[4:-3] = ["…"]
    return GraphError(
        f"these jobs wait for each other: {' → '.join([*names, names[0]])} (each needs the next one's value)"
    )


def _unused(made: Sequence[Call], used: dict[Call, int], where: Callable[[str], str]) -> list[str]:
    """One warning for each line that made jobs which nothing uses. What only such jobs need is not named."""
    unused = [call for call in made if call not in used]
    passed: set[Call] = set()
    for call in unused:
        try:
            passed.update(dump_call(call)[1])
        except WorkflowError:
            continue  # it will never run, so that it cannot be pickled does no harm
    left = [call for call in unused if call not in passed] or unused
    lines = Counter((call.kind, call.where) for call in left)
    warnings = [
        f"{'job' if count == 1 else f'{count} jobs'} {kind} made at {where(file)}:{line} will not run: "
        f"neither returned nor passed to another job"
        for (kind, (file, line)), count in lines.items()
    ]
    if len(warnings) > _MOST_WARNINGS:
        warnings[_MOST_WARNINGS:] = [f"… and such jobs made at {len(warnings) - _MOST_WARNINGS} other lines"]
    return warnings
