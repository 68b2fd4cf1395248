"""Which jobs were made while a workflow function or a job body ran, to find those that nobody uses.

There is one scope a process: a worker runs one attempt at a time, a planner one workflow function. It is not a
context variable, so that threads started by user code take part in it.
"""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from orch.authoring.nodes import Call

_current: Scope | None = None
_numbers = itertools.count(1)


class Scope:
    """While entered, every call that makes a job is noted. Scopes do not nest: the inner one hides the outer."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.number = next(_numbers)
        self._outer: Scope | None = None

    def __enter__(self) -> Self:
        global _current  # noqa: PLW0603 - see above
        self._outer = _current
        _current = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current  # noqa: PLW0603 - the scope that is open in this process, by name
        _current = self._outer


def note(call: Call) -> int:
    """A job was made: the number of the scope it belongs to. 0: none (while a module is imported, in a notebook)."""
    if _current is None:
        return 0
    _current.calls.append(call)
    return _current.number


def current() -> int:
    """The number of the scope that is open; 0: none."""
    return 0 if _current is None else _current.number
