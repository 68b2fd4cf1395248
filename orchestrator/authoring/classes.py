"""Objects that are run: jobs and services that users write as classes, and how they travel to where they run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from orch.authoring.functions import kind_of
from orch.authoring.nodes import Call, Job, short_call
from orch.authoring.options import DEFAULT
from orch.errors import UserError


class Portrait:
    """An object as it is to be there, not the job or service that it stands for here: pickled, it is that object.

    Its attributes are looked at when it is pickled, since they are set after the job has been made.
    """

    __slots__ = ("subject",)

    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def __reduce__(self) -> Any:
        return blank, (type(self.subject),), self.subject.__getstate__()

    def parts(self) -> dict[str, Any]:
        """The attributes by name, for messages."""
        state = self.subject.__getstate__()
        if isinstance(state, tuple):
            state = {**(state[0] or {}), **(state[1] or {})}
        return state if isinstance(state, dict) else {"state": state}


def blank(kind: type) -> Any:
    """An object of a class, before its attributes are there. It is no job here, but the one that runs."""
    made: Any = object.__new__(kind)
    if isinstance(made, Job):
        made._call, made._path = None, ()  # noqa: SLF001 - one unit with nodes.py
    return made


def begin(kind: type[Job], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job:
    """A job that is an object of a user's class. Raises `UserError` where the class does not say what to run."""
    if kind is Job:
        raise UserError("orch.Job is a class to derive from: write `class Sort(orch.Job)` with a method run()")
    check_method(kind, "run", "an orch.Job says there what it does")
    job: Job = object.__new__(kind)
    name = kind_of(kind)
    call = Call(name, run, (Portrait(job),), {}, DEFAULT, name=short_call(name, args, kwargs), depth=3)
    job._call, job._path = call, ()  # noqa: SLF001 - one unit with nodes.py
    return job


def run(job: Any) -> Any:
    """The body of a job that is an object."""
    return job.run()


def check_method(kind: type, name: str, purpose: str) -> None:
    """Raise `UserError` unless the class has that method, and it is one that can be called once, for its value."""
    method = getattr(kind, name, None)
    if not callable(method):
        raise UserError(f"class {kind.__qualname__} has no method {name}: {purpose}")
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise UserError(f"{kind.__qualname__}.{name} is a generator, which cannot be stored; return a list")
