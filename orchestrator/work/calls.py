"""What a call is, for the call cache: its code, its function and its arguments, each as a digest.

The code is the bundle's, or the author's word for it. A program has none of the bundle's: what it is are its arguments
and its files.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from orch.attempt import CommandSpec
from orch.authoring.classes import Portrait
from orch.authoring.commands import Program
from orch.authoring.functions import kind_of
from orch.authoring.nodes import Job
from orch.bus.events import Call
from orch.work.canonical import Uncacheable, digest, name_of

__all__ = ["Uncacheable", "Unstored", "call_of_command", "call_of_function"]


class Unstored(Uncacheable):
    """The code is not in the store, and the author does not vouch for it."""


def call_of_function(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, bundle: str, version: str
) -> Call:
    """A call of a function, or of a program that Python prepares. Raises `Uncacheable`, `Unstored`.

    `bundle` is empty where the code was not stored, so that no digest tells what it is.
    With `version` the author promises that the code is the same, so that a function needs no name of its own.
    """
    if len(args) == 1 and isinstance(args[0], Program):
        program = {field.name: getattr(args[0], field.name) for field in dataclasses.fields(Program)}
        return _call("program", program, _code("", version))
    if len(args) == 1 and isinstance(args[0], Job):  # an object of a user's class, which is there to be run
        function, arguments = type(args[0]), Portrait(args[0]).parts()
    else:
        arguments = _arguments(function, args, kwargs)
    try:
        name = name_of(function)
    except Uncacheable:
        if not version:
            raise
        name = f"{function.__module__}:{kind_of(function)}"
    if not (bundle or version):
        raise Unstored
    return _call(name, arguments, _code(bundle, version))


def call_of_command(spec: CommandSpec, version: str) -> Call:
    """A call of a program without Python."""
    return _call("command", msgspec.structs.asdict(spec), _code("", version))


def _code(bundle: str, version: str) -> str:
    return f"version:{version}" if version else bundle


def _arguments(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names of their parameters, those that were left out too."""
    try:
        bound = inspect.signature(getattr(function, "__wrapped__", function)).bind(*args, **kwargs)
    except (TypeError, ValueError):  # a function of C that does not say; or the call will fail
        return {f"argument {number}": value for number, value in enumerate(args, 1)} | kwargs
    bound.apply_defaults()
    return bound.arguments


def _call(function: str, arguments: Mapping[str, Any], code: str) -> Call:
    parts = {"function": digest(function)}
    for name, value in arguments.items():
        try:
            parts[name if name != "function" else "argument function"] = digest(value)
        except Uncacheable as error:
            raise Uncacheable(f"argument {name!r}: {error}") from error
    total = digest((code, parts))
    return Call(digest=total, code=code, parts=parts)
