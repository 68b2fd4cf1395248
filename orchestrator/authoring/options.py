"""What a user may say about a job beside its arguments: resources, tries, where and how it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict

import msgspec

from orch.bus.events import Resources, Retry
from orch.bus.jsonable import clean_text
from orch.errors import UserError
from orch.sizes import parse_duration, parse_size

UNSET_RETRIES = -1
"""The run's default (`--retries`) holds."""

MOST = 2**31 - 1
"""What numbers may come to: beyond 64 bits there is no room for them in a log."""


class ServiceOptions(TypedDict, total=False):
    """Options that jobs and services have, for type checkers.

    None: as if it were not given. Sizes and the like may be jobs, or `orch.promised`.
    """

    cores: Any
    memory: Any
    disk: Any
    walltime: Any
    accelerators: Any
    preemptible: bool | None
    queue: str | None
    backend: Any
    local: bool | None
    priority: int | None
    retries: int | None
    retry_backoff: str | float | None
    retry_on: Any
    no_retry_on: Any
    memory_escalation: Any
    walltime_escalation: Any
    name: str | None


class JobOptions(ServiceOptions, total=False):
    """Likewise, of a job."""

    checkpoint: bool | None
    cache: bool | None
    version: str | None
    isolation: str | None


class Options(msgspec.Struct, frozen=True):
    """Checked options.

    `form` is "fork" or "pool"; an empty `name` means: made from the arguments. 0 cores, memory … : it does not say.
    `cache`, `preemptible` None: it does not say. `wanted`: those resources that depend on values, as they were given.
    """

    resources: Resources = Resources(cores=0.0)
    retries: int = UNSET_RETRIES
    name: str = ""
    form: str = "fork"
    retry: Retry = Retry()
    checkpoint: bool = False
    cache: bool | None = None
    version: str = ""
    priority: int = 0
    local: bool = False
    preemptible: bool | None = None
    wanted: dict[str, Any] = {}


DEFAULT = Options()


class _Option(NamedTuple):
    """How an option is read, and which fields of `Options`, or of a record in it, it sets: as many as `parse` gives."""

    parse: Callable[[Any], Any]
    record: str
    fields: tuple[str, ...]


def make_options(owner: str, given: Mapping[str, Any], base: Options = DEFAULT) -> Options:
    """`base`, changed by what was `given`. Raises `UserError` that names `owner` ("job fib") and the option."""
    changes: dict[str, dict[str, Any]] = {"": {}, "resources": {}, "retry": {}}
    wanted = dict(base.wanted)
    for name, value in given.items():
        option = _OPTIONS.get(name)
        if option is None:
            raise UserError(f"{owner}: unknown option {name!r}{_hint(name)}")
        if value is None:
            continue
        wanted.pop(name, None)
        if name in RESOURCES and depends(value):
            wanted[name] = value
        else:
            parsed = _parsed(owner, name, option, value)
            values = parsed if len(option.fields) > 1 else (parsed,)
            changes[option.record].update(zip(option.fields, values, strict=True))
    rest = changes.pop("")
    for record, parts in changes.items():
        if parts:
            rest[record] = msgspec.structs.replace(getattr(base, record), **parts)
    if wanted != base.wanted:
        rest["wanted"] = wanted
    return msgspec.structs.replace(base, **rest) if rest else base


def _parsed(owner: str, name: str, option: _Option, value: Any) -> Any:
    try:
        return option.parse(value)
    except ValueError as error:
        raise UserError(f"{owner}: {name}={_shown(value)}: {error}") from None  # the message says it all


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.200}"
    except ValueError:  # Python does not write numbers of more than some thousand digits
        return "…"


def parse_resource(option: str, value: Any) -> Any:
    """The field of `Resources` that is called `option`, from what a user gave. Raises `ValueError`."""
    return RESOURCES[option](value)


def depends(value: Any) -> bool:
    """Is this, or does it hold, a job or an `orch.promised`? Then it is known only when those are values."""
    if isinstance(value, str | int | float):
        return False
    if isinstance(value, Mapping):
        return any(map(depends, value.values()))
    if isinstance(value, list | tuple):
        return any(map(depends, value))
    from orch.authoring.nodes import Job  # it imports this module
    from orch.authoring.promises import Promised

    return isinstance(value, Job | Promised)


def _cores(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("cores must be a number above 0, such as 1, 4 or 0.5")
    return float(at_most(value))


def at_most(number: Any) -> Any:
    """The number, if there is room for it in a log. Raises `ValueError`."""
    if not -MOST <= number <= MOST:
        raise ValueError(f"that is too much: it can be {MOST} at most")
    return number


def encodable(text: str) -> str:
    """The text, if it can be written down. Raises `ValueError`."""
    if clean_text(text) != text:
        raise ValueError("this text has lone surrogates, which cannot be written as UTF-8")
    return text


def _accelerators(value: Any) -> Any:
    from orch.authoring.accelerators import parse_accelerators  # few workflows have any

    return parse_accelerators(value)


def _conditions(value: Any) -> Any:
    from orch.authoring.retrying import parse_conditions  # as above

    return parse_conditions(value)


def _memory_escalation(value: Any) -> Any:
    from orch.authoring.retrying import escalation  # as above

    return escalation(parse_size)(value)


def _walltime_escalation(value: Any) -> Any:
    from orch.authoring.retrying import escalation  # as above

    return escalation(parse_duration)(value)


def _retries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("retries must be a whole number, 0 or more")
    return int(at_most(value))


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("priority must be a whole number; jobs with a higher one start earlier")  # noqa: TRY004 - as _flag
    return int(at_most(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("this is True or False")  # noqa: TRY004 - a mistake in a value, like the others here
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"this must be a text, and not {_what(value)}")  # noqa: TRY004 - as above
    if not value.strip():
        raise ValueError("this must be a text that is not empty")
    return encodable(" ".join(value.split()))


def _backend(value: Any) -> tuple[tuple[str, str], ...]:
    """Settings of a batch system by name, as they are passed through: text, numbers and True are what they may be."""
    if not isinstance(value, Mapping):
        raise ValueError('this must be a dictionary, such as {"constraint": "ib"}')  # noqa: TRY004 - as above
    return tuple(sorted((_text(key), _passed(key, each)) for key, each in value.items()))


def _passed(key: Any, value: Any) -> str:
    """As text; True, for what takes no value, is empty."""
    if value is True:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key!r} must be a text, a number or True, and not {_what(value)}")  # noqa: TRY004 - as above
    return encodable(str(value))


def _what(value: Any) -> str:
    if depends(value):
        return "a job: it is needed before any job has a value"
    return f"a value of type {type(value).__name__}"


def _isolation(value: Any) -> str:
    if value not in ("fork", "pool"):
        raise ValueError('isolation must be "fork" (a process of its own) or "pool" (a warm worker)')
    return str(value)


RESOURCES: dict[str, Callable[[Any], Any]] = {
    "cores": _cores,
    "memory": parse_size,
    "disk": parse_size,
    "walltime": parse_duration,
    "accelerators": _accelerators,
}
"""Options that may depend on values, and how what they come to is read."""

_OPTIONS: dict[str, _Option] = {
    **{name: _Option(parse, "resources", (name,)) for name, parse in RESOURCES.items()},
    "preemptible": _Option(_flag, "", ("preemptible",)),
    "queue": _Option(_text, "resources", ("queue",)),
    "backend": _Option(_backend, "resources", ("backend",)),
    "local": _Option(_flag, "", ("local",)),
    "priority": _Option(_priority, "", ("priority",)),
    "retries": _Option(_retries, "", ("retries",)),
    "retry_backoff": _Option(parse_duration, "retry", ("backoff",)),
    "retry_on": _Option(_conditions, "retry", ("on",)),
    "no_retry_on": _Option(_conditions, "retry", ("never",)),
    "memory_escalation": _Option(_memory_escalation, "retry", ("memory_factor", "memory_cap")),
    "walltime_escalation": _Option(_walltime_escalation, "retry", ("time_factor", "time_cap")),
    "checkpoint": _Option(_flag, "", ("checkpoint",)),
    "cache": _Option(_flag, "", ("cache",)),
    "version": _Option(_text, "", ("version",)),
    "name": _Option(_text, "", ("name",)),
    "isolation": _Option(_isolation, "", ("form",)),
}


def _hint(option: str) -> str:
    import difflib  # only for a mistake

    close = difflib.get_close_matches(option, _OPTIONS, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(_OPTIONS)}"
