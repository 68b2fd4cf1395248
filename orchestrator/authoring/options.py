"""What a user may say about a job beside its arguments: resources, retries, name, isolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from orch.bus.events import Resources
from orch.errors import UserError
from orch.sizes import parse_duration, parse_size

UNSET_RETRIES = -1
"""The run's default (`--retries`) holds."""


class Options(msgspec.Struct, frozen=True, gc=False):
    """Checked options. `form` is "fork" or "pool"; an empty `name` means: made from the arguments."""

    resources: Resources = Resources()
    retries: int = UNSET_RETRIES
    name: str = ""
    form: str = "fork"


DEFAULT = Options()


def make_options(owner: str, given: Mapping[str, Any], base: Options = DEFAULT) -> Options:
    """`base`, changed by what was `given`. Raises `UserError` that names `owner` ("job fib") and the option."""
    resources: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for option, value in given.items():
        parse = _PARSERS.get(option)
        if parse is None:
            raise UserError(f"{owner}: unknown option {option!r}{_hint(option)}")
        if value is None:
            continue
        try:
            parsed = parse(value)
        except ValueError as error:
            raise UserError(f"{owner}: {option}={value!r}: {error}") from error
        (resources if option in _RESOURCES else rest)[_FIELDS.get(option, option)] = parsed
    if resources:
        rest["resources"] = msgspec.structs.replace(base.resources, **resources)
    return msgspec.structs.replace(base, **rest) if rest else base


def _cores(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError("cores must be a number above 0, such as 1, 4 or 0.5")
    return float(value)


def _retries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("retries must be a whole number, 0 or more")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a name must be a text that is not empty")
    return " ".join(value.split())


def _isolation(value: Any) -> str:
    if value not in ("fork", "pool"):
        raise ValueError('isolation must be "fork" (a process of its own) or "pool" (a warm worker)')
    return str(value)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "cores": _cores,
    "memory": parse_size,
    "disk": parse_size,
    "walltime": parse_duration,
    "retries": _retries,
    "name": _name,
    "isolation": _isolation,
}
_RESOURCES = frozenset({"cores", "memory", "disk", "walltime"})
_FIELDS = {"isolation": "form"}


def _hint(option: str) -> str:
    import difflib  # only for a mistake

    close = difflib.get_close_matches(option, _PARSERS, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(_PARSERS)}"
