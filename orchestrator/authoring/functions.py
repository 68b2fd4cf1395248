"""`orch.job`: the decorator, and the object that it makes of a function."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from orch.authoring.nodes import Call, node, short_call
from orch.authoring.options import DEFAULT, JobOptions, Options, make_options
from orch.errors import CallError, UserError

P = ParamSpec("P")
R = TypeVar("R")


class JobFunction(Generic[P, R]):
    """A function whose calls make jobs. `__wrapped__` is the function itself, to be called in tests.

    For type checkers a call gives what the function returns: a `Job` stands for its value.
    """

    __wrapped__: Callable[..., Any]
    __qualname__: str
    _options: Options
    _kind: str
    _arity: tuple[int, int]
    _reachable: bool

    def __init__(self, function: Callable[..., Any], options: Options = DEFAULT) -> None:
        self._adopt(function, options)

    def _adopt(self, function: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(self, function)
        self._options = options
        self._kind = kind_of(function)
        self._arity = _arity(function)
        self._reachable = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """A job that will run the function. Raises `CallError` where the arguments do not fit."""
        least, most = self._arity
        if kwargs or not least <= len(args) <= most:
            self._check(args, kwargs)
        name = "" if self._options.name else short_call(self._kind, args, kwargs)
        return cast(R, node(Call(self._kind, self, args, kwargs, self._options, name=name)))

    def options(self, **given: Unpack[JobOptions]) -> JobFunction[P, R]:
        """The same function with other options, as for `orch.job`."""
        changed = make_options(f"job {self._kind}", given, self._options)
        return JobFunction(self.__wrapped__, changed)

    @property
    def name(self) -> str:
        """Its qualified name, without the functions around it."""
        return self._kind

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `CallError` unless the arguments fit the signature."""
        try:
            inspect.signature(self.__wrapped__).bind(*args, **kwargs)
        except TypeError as error:
            signature = inspect.signature(self.__wrapped__)
            raise CallError(f"job {self._kind}: {error}; its parameters are {signature}") from None

    def __get__(self, instance: object, owner: type | None = None) -> JobFunction[P, R]:
        if instance is not None:
            raise UserError(
                f"job {self._kind} is a method: a job gets values, and no object that lives in this process. "
                f"Make it a function, or a @staticmethod, and pass what it needs"
            )
        return self

    def __repr__(self) -> str:
        return f"<job function {self.__module__}.{self.__qualname__}>"

    # Pickling: by name where the name leads back here, else the parts ------------------------------------------------

    def __reduce__(self) -> Any:
        if self.by_name() is self:
            return self.__qualname__
        return (_blank, (), {"function": self.__wrapped__, "options": self._options})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._adopt(state["function"], state["options"])

    def by_name(self) -> Any:
        """What a worker finds under the function's module and qualified name: this object, the function, or None."""
        if self._reachable:
            return self
        found = find_by_name(self.__module__, self.__qualname__)
        if found is self:
            self._reachable = True
            return self
        if found is self.__wrapped__ or (isinstance(found, JobFunction) and found.__wrapped__ is self.__wrapped__):
            return found
        return None


def _blank() -> JobFunction[..., Any]:
    """An object without a state yet, so that a function which refers to itself can be pickled by value."""
    return JobFunction.__new__(JobFunction)


def find_by_name(module: str, qualname: str) -> Any:
    """The object of that name in an imported module that others can import as well; else None."""
    found: Any = sys.modules.get(module) if module != "__main__" else None
    if found is None or "<" in qualname:
        return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def kind_of(function: Callable[..., Any]) -> str:
    """The function's qualified name without the functions around it."""
    name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name.rpartition("<locals>.")[2].replace("<lambda>", "lambda")


def _arity(function: Callable[..., Any]) -> tuple[int, int]:
    """How many positional arguments surely fit, from and to; (1, 0) where only the whole check can tell.

    The check by `inspect` takes some microseconds, too long for a hundred thousand calls.
    """
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return (1, 0)
    optional = getattr(function, "__kwdefaults__", None) or {}
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if any(name not in optional for name in names):
        return (1, 0)
    most = sys.maxsize if code.co_flags & inspect.CO_VARARGS else code.co_argcount
    return (code.co_argcount - len(getattr(function, "__defaults__", None) or ()), most)


class JobDecorator:
    """`orch.job(cores=2)` before it has met its function."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...

    def __call__(self, function: Callable[P, Any], /) -> JobFunction[P, Any]:
        """The job function."""
        _check_function(function, "job")
        return JobFunction(function, make_options(f"job {kind_of(function)}", self._given))


@overload
def job(function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R]: ...


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(**given: Unpack[JobOptions]) -> JobDecorator: ...


def job(function: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Make a function's calls jobs: `@orch.job`, or `@orch.job(cores=2, memory="1 GiB", retries=2)`.

    `cores` (a number, fractions too), `memory`, `disk` (sizes), `walltime` (a duration)
                     what an attempt may use; of a job that does not say, the run's defaults
    `accelerators`   `1`, `"gpu"`, `"nvidia-tesla-k80:2"`, `{"kind": "gpu", "count": 1, "model": …}`, or a list of these
    `preemptible`    it may run where the batch system can take its place away
    `queue`          of a batch system, the queue or partition that it goes to
    `backend`        settings that are passed through to the batch system: {"constraint": "ib"}
    `local`          it runs on the leader's own host
    `priority`       a whole number: of jobs that are ready, those with a higher one start first
    `retries`        how often a failed job is tried again; default: the run's
    `retry_backoff`  before the second try; three times as long before each further one
    `retry_on`, `no_retry_on`
                     after which ends it is tried again, and after which not: exit codes, names of reasons
                     ("MEMLIMIT"), exception classes, regular expressions that are searched for in the message of
                     the attempt; one, or a list
    `memory_escalation`, `walltime_escalation`
                     what memory and wall time are multiplied with after they were too little: False, a factor, or
                     a factor and what they may come to: `(2, "64 GiB")`
    `checkpoint`     if what comes from this job fails for good, all of it is dropped and the job runs again
    `cache`          its value may be taken from an equal call of an earlier run; `version`: a text that is changed
                     whenever the code is, instead of comparing the code (and means `cache`, unless that is False)
    `name`           how its jobs are shown; default: made from the call
    `isolation`      "fork": each attempt in a process of its own; "pool": in a warm worker, for many short jobs

    Resources may depend on values that are not known yet: `memory=other_job["size"]`, or `orch.promised`. Raises
    `UserError` for what cannot be.
    """
    if function is None:
        return JobDecorator(given)
    return JobDecorator(given)(function)


def _check_function(function: Any, decorator: str) -> None:
    if isinstance(function, JobFunction):
        raise UserError(f"@orch.{decorator} on {function!r}, which is one already")
    if isinstance(function, staticmethod | classmethod | type) or not callable(function):
        raise UserError(f"@orch.{decorator} is for functions, and {function!r} is none (put @staticmethod above it)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UserError(f"@orch.{decorator} on {kind_of(function)}: a generator cannot be stored; return a list")
    if not hasattr(function, "__code__") and not _has_signature(function):
        raise UserError(
            f"@orch.{decorator} on {function!r:.80}, whose name or parameters cannot be known: write a function with "
            f"def that calls it"
        )


def _has_signature(function: Any) -> bool:
    """Has what is no function in Python a name and parameters? A `functools.partial` and `max` have not."""
    try:
        inspect.signature(function)
    except ValueError:
        return False
    return hasattr(function, "__qualname__")
