"""A survey of a job: what it asks for, where that depends on values, and what its call is, for the call cache."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec

from orch.attempt import Attempt, CommandSpec, Outcome, Reason
from orch.authoring.options import parse_resource
from orch.authoring.promises import Promised
from orch.bus.events import Blob
from orch.errors import JobError
from orch.work.values import Values


def survey(attempt: Attempt, label: str, values: Values, fetch: Callable[[Blob], bytes], code: str) -> Outcome:
    """What a survey leaves behind. Raises `JobError`, and whatever a promised function raises.

    `code` is the digest of the workflow's code, empty where that was not stored.
    """
    given = values.load_body(attempt.wanted, attempt.needs) if attempt.wanted.size else {}
    resources = attempt.asked or attempt.resources
    if given:
        known = {option: _known(label, option, value) for option, value in given.items()}
        resources = msgspec.structs.replace(resources, **known)
    call, problem = _call(attempt, label, values, fetch, code) if attempt.cache else (None, "")
    return Outcome(
        key=attempt.key,
        reason=Reason.FINISHED,
        exit_code=0,
        resources=resources,
        call=call,
        warnings=[problem] if problem else [],
    )


def _known(label: str, option: str, given: Any) -> Any:
    """What an option comes to, now that the values are there. Raises `JobError` that names the job and the option."""
    try:
        value = _resolved(given)
    except Exception as error:  # user code may raise anything
        error.add_note(f"(raised by the promised function for the option {option} of {label})")
        raise
    try:
        return parse_resource(option, _plain(value))
    except (ValueError, TypeError) as error:
        source = "what the promised function returned" if isinstance(given, Promised) else "the value given for it"
        said = str(error).startswith(repr(value))  # most errors begin with what is wrong
        shown = "" if said else f" is {value!r:.200}"
        raise JobError(f"{label}: {option}: {source}{shown}: {error}") from error


def _resolved(given: Any) -> Any:
    if isinstance(given, Promised):
        return given.resolve()
    if isinstance(given, dict):
        return {key: _resolved(part) for key, part in given.items()}
    if isinstance(given, list | tuple):
        return [_resolved(part) for part in given]
    return given


def _plain(value: Any) -> Any:
    """Numbers of libraries as Python's own."""
    if isinstance(value, str | int | float):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if hasattr(value, "__float__") else value


def _call(attempt: Attempt, label: str, values: Values, fetch: Callable[[Blob], bytes], code: str) -> tuple[Any, str]:
    """The call, or what to tell the user of one that has no digest."""
    from orch.calls.record import UNSTORED
    from orch.work.calls import Uncacheable, Unstored, call_of_command, call_of_function

    data = fetch(attempt.body)
    if data.startswith(b"{"):  # JSON, as no pickle begins: a program without Python, which is surveyed all the same
        return call_of_command(msgspec.json.decode(data, type=CommandSpec), attempt.version), ""
    try:
        function, args, kwargs = values.load_body(attempt.body, attempt.needs)
        return call_of_function(function, args, kwargs, bundle=code, version=attempt.version), ""
    except Unstored:
        return None, UNSTORED
    except Uncacheable as error:
        return None, f"{label} cannot be cached: {error}"
