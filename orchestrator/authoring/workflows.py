"""`orch.workflow`: marks the function that makes a run's first jobs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from orch.authoring.functions import JobFunction, find_by_name, kind_of
from orch.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


class Workflow(Generic[P, R]):
    """A workflow function. Calling it calls the function: workflows can be parts of others.

    `include` names files (patterns relative to the workflow's file) that its code reads, to be stored with it.
    """

    __wrapped__: Callable[P, R]
    __qualname__: str

    def __init__(self, function: Callable[P, R], include: Sequence[str] = ()) -> None:
        self._adopt(function, tuple(include))

    def _adopt(self, function: Callable[P, R], include: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self.include = include
        self.name = kind_of(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns: jobs, as a rule."""
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.__module__}.{self.__qualname__}>"

    def __reduce__(self) -> Any:
        if find_by_name(self.__module__, self.__qualname__) is self:
            return self.__qualname__
        return (_blank, (), {"function": self.__wrapped__, "include": self.include})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._adopt(state["function"], state["include"])


def _blank() -> Workflow[..., Any]:
    return Workflow.__new__(Workflow)


class WorkflowDecorator:
    """`orch.workflow(include=…)` before it has met its function."""

    def __init__(self, include: Sequence[str]) -> None:
        if isinstance(include, str) or not all(isinstance(pattern, str) for pattern in include):
            raise UserError(f'@orch.workflow: include={include!r} must be a list of patterns, like ["data/*.csv"]')
        self._include = include

    def __call__(self, function: Callable[P, R], /) -> Workflow[P, R]:
        """The workflow."""
        if isinstance(function, JobFunction | Workflow | type) or not callable(function):
            raise UserError(f"@orch.workflow is for plain functions, and {function!r} is none")
        return Workflow(function, self._include)


@overload
def workflow(function: Callable[P, R], /) -> Workflow[P, R]: ...


@overload
def workflow(*, include: Sequence[str] = ()) -> WorkflowDecorator: ...


def workflow(function: Callable[..., Any] | None = None, /, *, include: Sequence[str] = ()) -> Any:
    """Mark the function that makes a run's first jobs; its parameters become options of `orch run`.

    `include` names files beside the workflow that its code reads: `@orch.workflow(include=["data/*.csv"])`. They are
    found without running the code, so the list must be written out.
    """
    decorator = WorkflowDecorator(include)
    return decorator if function is None else decorator(function)
