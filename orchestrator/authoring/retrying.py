"""What a user may write for `retry_on=`, `no_retry_on=` and the escalations, as fields of `orch.bus.events.Retry`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orch.attempt import Reason
from orch.authoring.options import encodable
from orch.patterns import problem

_FACTOR = 2.0
_LARGEST = 1000
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x", re.ASCII: "a"}


def parse_conditions(given: Any) -> tuple[str, ...]:
    """Tokens as in `Retry.on`. Raises `ValueError` that says what is accepted."""
    return tuple(dict.fromkeys(map(_token, given if isinstance(given, list | tuple | set | frozenset) else [given])))


def _token(given: Any) -> str:
    if isinstance(given, str) and given in Reason.__members__:
        if given == Reason.FINISHED:
            raise ValueError("FINISHED is success, and no reason to try again or not to")
        return f"reason:{given}"
    if isinstance(given, type) and issubclass(given, BaseException):
        return f"error:{given.__module__}.{given.__qualname__}"
    if isinstance(given, int) and not isinstance(given, bool):
        return f"exit:{given}"
    if isinstance(given, str | re.Pattern):
        return f"message:{encodable(_pattern(given))}"
    raise ValueError(
        f"{given!r:.80} is none of: an exit code, a reason such as MEMLIMIT, an exception class, a pattern for messages"
    )


def _pattern(given: str | re.Pattern[Any]) -> str:
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise ValueError(
            f"a text that is no reason such as MEMLIMIT is a regular expression, which is searched for in the message "
            f"of an attempt; this one is wrong{_position(error)}: {error.msg}"
        ) from None
    if not isinstance(pattern.pattern, str) or not pattern.pattern:
        raise ValueError("a pattern for messages is a text that is not empty")
    flags = "".join(letter for flag, letter in _FLAGS.items() if pattern.flags & flag)
    text = f"(?{flags}){pattern.pattern}" if flags and isinstance(given, re.Pattern) else pattern.pattern
    if trouble := problem(text):
        raise ValueError(f"this pattern for messages cannot be used: {trouble}")
    return text


def _position(error: re.error) -> str:
    return "" if error.pos is None else f" at character {error.pos + 1}"


def escalation(parse_cap: Callable[[Any], Any]) -> Callable[[Any], tuple[float, Any]]:
    """A parser for `False`, `True`, a factor, or a factor and what it may come to at most: factor and cap."""

    def parse(given: Any) -> tuple[float, Any]:
        if isinstance(given, bool):
            return (_FACTOR if given else 1.0), parse_cap(0)
        factor, cap = given if isinstance(given, list | tuple) and len(given) == 2 else (given, 0)
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= _LARGEST:
            accepted = f"a factor from 1 to {_LARGEST}"
            raise ValueError(f'give False, {accepted}, or a factor and a cap, such as (2, "64 GiB")')
        return float(factor), parse_cap(cap)

    return parse
