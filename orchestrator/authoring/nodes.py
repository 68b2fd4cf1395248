"""`Job`, what calling a decorated function gives: a node of the graph that stands for its own future value."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from orch.authoring import scope
from orch.authoring.options import Options
from orch.errors import WorkflowError

_SHORT = 24
_LONG = 60
_PLAIN = (int, float, str, bytes, list, tuple, dict, set)


class Call:
    """One call that made a job: a function, its arguments, its options, and where in the user's code it stood.

    `target`  what is pickled as the function: a `JobFunction`, or a function of ours
    `body`    the finished body instead, where a job needs no Python (form "command")
    """

    __slots__ = ("args", "body", "form", "kind", "kwargs", "name", "options", "target", "where")

    def __init__(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Options,
        *,
        name: str = "",
        form: str = "",
        body: bytes = b"",
        depth: int = 2,
    ) -> None:
        frame = sys._getframe(depth)  # noqa: SLF001 - the caller's line; inspect.stack() would read source files
        self.kind = kind
        self.target = target
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.name = options.name or name
        self.form = form or options.form
        self.body = body
        self.where = (frame.f_code.co_filename, frame.f_lineno)
        scope.note(self)

    @property
    def label(self) -> str:
        """For messages: the display name, or the kind."""
        return self.name or self.kind


class Job:
    """A job to be run, and its future value. `job["key"]` and `job[0]` stand for a part of that value.

    A job may be an argument of other jobs and may stand anywhere in arguments and in returned values. It has no value
    yet while the workflow is being built, so it cannot be iterated, compared, counted or tested for truth.
    """

    __slots__ = ("_call", "_path")

    def __init__(self, call: Call, path: tuple[Any, ...] = ()) -> None:
        self._call = call
        self._path = path

    @property
    def kind(self) -> str:
        """The function that the job runs."""
        return self._call.kind

    @property
    def name(self) -> str:
        """How the job is shown."""
        return self._call.label

    def __getitem__(self, key: Any) -> Job:
        return Job(self._call, (*self._path, key))

    # A missing __iter__ would let Python iterate by __getitem__(0), (1), (2) … for ever.
    def __iter__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is not iterable: it has no value yet, so nobody knows how many parts there will be. Pass it to "
            f"another job and iterate there; parts that are known are job[0], job[1] … or job['key']"
        )

    if not TYPE_CHECKING:  # type checkers should still find mistakes of ours

        def __getattr__(self, name: str) -> NoReturn:
            """Only for what is not there. Python asks for names with underscores itself."""
            if name.startswith("_"):
                raise AttributeError(f"'Job' object has no attribute {name!r}")
            raise AttributeError(
                f"{self!r} has no attribute {name!r}: it stands for a value that is not there yet. For that part of "
                f"the value write job[{name!r}]"
            )

    def __repr__(self) -> str:
        path = "".join(f"[{key!r}]" for key in self._path)
        return f"<job {self._call.label}{path}>"

    def __hash__(self) -> int:
        return hash((id(self._call), self._path)) if self._path else id(self._call) >> 4

    def __eq__(self, other: object) -> bool:
        """The same job, and the same part of it. To compare with a plain value is refused: it would always differ."""
        if isinstance(other, Job):
            return self._call is other._call and self._path == other._path
        if isinstance(other, _PLAIN):
            _no_value(self, "compared")
        return NotImplemented

    def __format__(self, spec: str) -> str:
        _no_value(self, "put into a text")

    def __reduce__(self) -> NoReturn:
        _no_value(self, "pickled or copied here")

    def __copy__(self) -> Job:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Job:
        return self


def _no_value(job: Job, what: str) -> NoReturn:
    raise WorkflowError(
        f"{job!r} cannot be {what}: it has no value yet. Pass it to another job, which gets the value; "
        f"or return it, and work on the value there"
    )


def _refusal(what: str) -> Callable[..., Any]:
    def refuse(self: Job, *_others: Any) -> NoReturn:
        _no_value(self, what)

    return refuse


for _what, _names in {
    "tested for truth": ("__bool__",),
    "counted": ("__len__",),
    "searched": ("__contains__",),
    "compared": ("__lt__", "__le__", "__gt__", "__ge__"),
    "used as a number": ("__int__", "__float__", "__index__", "__neg__", "__abs__", "__round__"),
    "computed with": tuple(
        f"__{side}{name}__"
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
        for side in ("", "r")
    ),
    "changed": ("__setitem__", "__delitem__"),
    "awaited": ("__await__",),
}.items():
    for _name in _names:
        setattr(Job, _name, _refusal(_what))


def short_call(kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A display name like "fib(3)" or "merge(left=…, 2)": small plain values are shown, others are "…"."""
    shown = [_short(value) for value in args]
    shown.extend(f"{name}={_short(value)}" for name, value in kwargs.items())
    text = f"{kind}({', '.join(shown)})"
    return text if len(text) <= _LONG else f"{text[: _LONG - 2]}…)"


def _short(value: Any) -> str:
    kind = type(value)
    if kind is int and not -(10**_SHORT) < value < 10**_SHORT:
        return "…"  # the text of a huge integer takes long, or is refused
    if kind in (int, float, bool, type(None)) or (kind is str and len(value) <= _SHORT):
        return repr(value)
    return "…"
