"""Jobs that were made and that nothing leads to: what is said about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from orch.authoring.nodes import Call
from orch.authoring.pickling import dump_call
from orch.errors import GraphError, WorkflowError

_MOST_WARNINGS = 20
_MOST_NAMED = 8


def left_over(made: Sequence[Call], used: Collection[Call], where: Callable[[str], str]) -> list[str]:
    """One warning for each line that made jobs which nothing uses. What only such jobs need is not named.

    Raises `GraphError` if one of them was added to another, or another to it: whoever did that meant it to run.
    """
    unused = [call for call in made if call not in used]
    tied = [call for call in unused if call.ties is not None]
    if tied:
        raise GraphError(_lost(tied, where))
    passed: set[Call] = set()
    for call in unused:
        try:
            passed.update(dump_call(call).needs)
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


def _lost(tied: Sequence[Call], where: Callable[[str], str]) -> str:
    named = [f"{call.label} (made at {where(call.where[0])}:{call.where[1]})" for call in tied[:_MOST_NAMED]]
    if len(tied) > _MOST_NAMED:
        named.append(f"… and {len(tied) - _MOST_NAMED} more")
    return (
        f"these jobs are children, follow-ons or services of each other, and nothing leads to them: "
        f"{', '.join(named)}. Return one of them, pass it to a job that runs, or add it: orch.context().add_child(…)"
    )
