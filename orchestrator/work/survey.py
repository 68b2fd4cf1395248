"""A survey of a job: what it asks for, where that depends on values, and what its call is, for the call cache."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec

from orch.attempt import Attempt, CommandSpec, Outcome, Reason
from orch.authoring.options import make_options
from orch.authoring.promises import Promised
from orch.bus.events import Blob, Resources
from orch.errors import JobError
from orch.work.values import Values


def survey(attempt: Attempt, label: str, values: Values, fetch: Callable[[Blob], bytes]) -> Outcome:
    """What a survey leaves behind. Raises `UserError`, `JobError`, and whatever a promised function raises."""
    given = values.load_body(attempt.wanted, attempt.needs) if attempt.wanted.size else {}
    resources = attempt.asked or attempt.resources
    if given:
        resources = _resources(label, given, resources)
    call, problem = _call(attempt, values, fetch) if attempt.cache else (None, "")
    return Outcome(
        key=attempt.key,
        reason=Reason.FINISHED,
        exit_code=0,
        resources=resources,
        call=call,
        warnings=[f"{label} cannot be cached: {problem}"] if problem else [],
    )


def _resources(label: str, given: dict[str, Any], base: Resources) -> Resources:
    known = {option: _known(label, option, value) for option, value in given.items()}
    checked = make_options(label, known).resources
    return msgspec.structs.replace(base, **{option: getattr(checked, option) for option in known})


def _known(label: str, option: str, value: Any) -> Any:
    """What an option comes to, now that the values are there; numbers of libraries as Python's own."""
    what = f"{label}: {option}"
    if isinstance(value, Promised):
        value = value.resolve()
        what = f"{what}: what the promised function returned"
    if value is None:
        raise JobError(f"{what} is None, and a size or number is needed")
    if isinstance(value, str | int | float):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if hasattr(value, "__float__") else value


def _call(attempt: Attempt, values: Values, fetch: Callable[[Blob], bytes]) -> tuple[Any, str]:
    from orch.work.calls import Uncacheable, call_of_command, call_of_function

    data = fetch(attempt.body)
    if data.startswith(b"{"):  # JSON, as no pickle begins: a program without Python, which is surveyed all the same
        return call_of_command(msgspec.json.decode(data, type=CommandSpec), attempt.version), ""
    try:
        function, args, kwargs = values.load_body(attempt.body, attempt.needs)
        return call_of_function(function, args, kwargs, bundle=attempt.bundle, version=attempt.version), ""
    except Uncacheable as error:
        return None, str(error)
