"""`Job`, what calling a decorated function gives: a node of the graph that stands for its own future value."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack

from orch.authoring import scope
from orch.authoring.options import JobOptions, Options, make_options
from orch.errors import JobError, UserError, WorkflowError

if TYPE_CHECKING:
    from orch.authoring.relations import Ties

T = TypeVar("T")

FOLLOW_ON = "follow-on"

_SHORT = 24
_LONG = 60
_PLAIN = (int, float, str, bytes, list, tuple, dict, set)


class Call:
    """One call that made a job: a function, its arguments, its options, and where in the user's code it stood.

    `target`  what is pickled as the function: a `JobFunction`, or a function of ours
    `body`    the finished body instead, where a job needs no Python (form "command")
    `scope`   the number of the scope that it was made in
    `ties`    its relations to other jobs, but for the values that it needs; None: it has none
    """

    __slots__ = ("args", "body", "form", "kind", "kwargs", "name", "options", "scope", "target", "ties", "where")

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
        self.ties: Ties | None = None
        self.scope = scope.note(self)

    @property
    def label(self) -> str:
        """For messages: the display name, or the kind."""
        return self.name or self.kind


class _Shown:
    """A property that an attribute of the same name hides: classes of users have names and kinds of their own."""

    def __init__(self, get: Callable[[Any], str]) -> None:
        self._get = get
        self.__doc__ = get.__doc__

    def __get__(self, job: Any, _owner: type | None = None) -> Any:
        return self if job is None else self._get(job)


class Job:
    """A job to be run, and its future value. `job["key"]` and `job[0]` stand for a part of that value.

    A job may be an argument of other jobs and may stand anywhere in arguments and in returned values. It has no value
    yet while the workflow is being built, so it cannot be iterated, compared, counted or tested for truth.

    A class that derives from it is a kind of job: making an object of it makes a job, whose body is its method `run`.

        class Sort(orch.Job):
            def __init__(self, data, memory="2 GiB"):
                super().__init__(memory=memory, cores=2)
                self.data = data

            def run(self):
                return sorted(self.data)

    The object's attributes go to the job as arguments do: jobs in them are values there. In `run`, `self` is the
    running job: what is added to it is added as by `orch.context()`. `super().__init__` takes the options.
    """

    __slots__ = ("_call", "_path")

    _call: Call | None  # None: of the object that runs
    _path: tuple[Any, ...]

    if not TYPE_CHECKING:  # what a class takes, its __init__ says

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            """The job of an object of a class, noted before its own `__init__` runs, and even if it has none."""
            from orch.authoring.classes import begin  # not every workflow has classes

            return begin(cls, args, kwargs)

    def __init__(self, **options: Unpack[JobOptions]) -> None:
        call = _known(self)
        call.options = make_options(f"job {call.kind}", options)
        call.form = call.options.form
        call.name = call.options.name or call.name

    @_Shown
    def kind(self) -> str:
        """The function or class that the job runs."""
        return self._call.kind if self._call is not None else type(self).__qualname__

    @_Shown
    def name(self) -> str:
        """How the job is shown."""
        return self._call.label if self._call is not None else type(self).__qualname__

    def __getitem__(self, key: Any) -> Job:
        return node(_known(self), (*self._path, key))

    def value(self, *path: Any) -> Job:
        """A part of the value: `job.value("path", 0, slice(1, 3))` is `job["path"][0][1:3]`."""
        return node(_known(self), (*self._path, *path))

    # The graph --------------------------------------------------------------------------------------------------------

    def add_child(self, other: T) -> T:
        """Have the job `other` run after this one's body; gives `other`. Raises `GraphError` for what cannot be."""
        from orch.authoring.relations import CHILD, add

        return add(self._call, other, CHILD)

    def add_follow_on(self, other: T) -> T:
        """Have `other` run after all children of this job and everything below those; gives `other`."""
        from orch.authoring.relations import add

        return add(self._call, other, FOLLOW_ON)

    def add_service(self, service: Any, parent: Any = None) -> Any:
        """Have an `orch.Service` run for this job's children and follow-ons; gives what stands for its credentials.

        It starts after this job's body, and after `parent`, another service of this job (or what stands for it).
        """
        from orch.authoring.services import add_service

        return add_service(self._call, service, parent)

    def encapsulate(self) -> Job:
        """This job and all that follows from it as one: what is added to the result comes after all of that.

        The result has this job's value. Add the result, and not this job, where it is to be a child or a follow-on.
        """
        from orch.authoring.relations import encapsulate

        return node(encapsulate(_known(self)), self._path)

    # A missing __iter__ would let Python iterate by __getitem__(0), (1), (2) … for ever.
    def __iter__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is not iterable: it has no value yet{_too_early()}, so nobody knows how many parts there will "
            f"be. Pass it to another job and iterate there; parts that are known are job[0], job[1] … or job['key']"
        )

    if not TYPE_CHECKING:  # type checkers should still find mistakes of ours

        def __getattr__(self, name: str) -> NoReturn:
            """Only for what is not there. Python asks for names with underscores itself."""
            kind = type(self)
            if name == "_call":
                raise WorkflowError(f"this {kind.__qualname__} is no job: it was not made by calling the class")
            if name.startswith("_"):
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            if kind is not Job:
                raise AttributeError(
                    f"{kind.__name__!r} object has no attribute {name!r}; a part of its value is job[{name!r}]"
                )
            raise AttributeError(
                f"{self!r} has no attribute {name!r}: it stands for a value that is not there yet. For that part of "
                f"the value write job[{name!r}]"
            )

    def __repr__(self) -> str:
        if self._call is None:
            return f"<the running job {type(self).__qualname__}>"
        path = "".join(f"[{_shown_key(key)}]" for key in self._path)
        return f"<job {self._call.label}{path}>"

    def __hash__(self) -> int:
        return hash((id(self._call), _hashable(self._path))) if self._path else id(self._call) >> 4

    def __eq__(self, other: object) -> bool:
        """The same job, and the same part of it. To compare with a plain value is refused: it would always differ."""
        if isinstance(other, Job):
            return self._call is other._call and self._path == other._path
        if isinstance(other, _PLAIN):
            _no_value(self, "compared")
        return NotImplemented

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:  # else numpy takes a job for a number without dimensions
        _no_value(self, "computed with")

    def __format__(self, spec: str) -> str:
        _no_value(self, "put into a text")

    def __reduce__(self) -> Any:
        _no_value(self, "pickled or copied here")

    def __getstate__(self) -> Any:
        """The attributes of an object of a class, without what makes it a job: for its body."""
        state = object.__getstate__(self)
        if not isinstance(state, tuple):
            return state
        slots = {name: value for name, value in state[1].items() if name not in Job.__slots__}
        return (state[0], slots) if slots else state[0]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


_new = object.__new__


def node(call: Call, path: tuple[Any, ...] = ()) -> Job:
    """What stands for a call's value, or for the part of it at `path`."""
    job: Job = _new(Job)
    job._call = call  # noqa: SLF001 - this is how a job is made
    job._path = path  # noqa: SLF001 - as above
    return job


def as_job(made: object) -> Job:
    """`made` as the job that it is: for type checkers, to which a call of a job function gives what it returns.

        orch.as_job(split(data)).add_child(check(data))

    Raises `UserError` for what is no job.
    """
    if not isinstance(made, Job):
        raise UserError(f"{made!r:.80} is no job: a job is what calling a job function, or orch.command, gives")
    return made


def _known(job: Job) -> Call:
    """The call behind a job. Raises `JobError` for the running job: nobody has its value before it has returned."""
    if job._call is None:  # noqa: SLF001 - one unit
        raise JobError(f"{job!r} has no value before its run() has returned")
    return job._call  # noqa: SLF001 - one unit


def _shown_key(key: Any) -> str:
    if type(key) is slice:
        parts = [key.start, key.stop] if key.step is None else [key.start, key.stop, key.step]
        return ":".join("" if part is None else repr(part) for part in parts)
    return repr(key)


def _hashable(key: Any) -> Any:
    """Slices have no hash before Python 3.12."""
    if type(key) is slice:
        return (slice, key.start, key.stop, key.step)
    return tuple(map(_hashable, key)) if type(key) is tuple else key


def _no_value(job: Job, what: str) -> NoReturn:
    raise WorkflowError(
        f"{job!r} cannot be {what}: it has no value yet{_too_early()}. Pass it to another job, which gets the value; "
        f"or return it, and work on the value there"
    )


def _too_early() -> str:
    """Who asks for a value that only comes after it, where a job does."""
    from orch.work.context import running  # only for a mistake

    label = running()
    return f", and gets it only after {label} has ended, which asks for it here" if label else ""


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
