"""Sizes and durations, as people write them.

The rule for sizes, the only one:

    a plain number          bytes                          1048576, "1048576", "512 B"
    K M G T P               powers of 1024                 "2G" is 2 · 1024³
    Ki… and KiB…            the same powers of 1024        "2Gi" and "2GiB" are "2G"
    KB MB GB TB PB          powers of 1000                 "2GB" is 2 000 000 000

Upper and lower case are the same, a space before the unit is allowed, so are fractions ("1.5G"). What is left of a
byte is rounded up.

The rule for durations: a plain number is seconds; units are ms, s, m or min, h and d; several may follow each other
from the largest to the smallest ("1h 30m").
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from orch.errors import SizeError

LARGEST = 2**63 - 1
"""The largest size, in bytes: what fits into 64 bits with a sign."""

_LETTERS = "KMGTP"
_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate(_LETTERS, start=1):
    _UNITS[_letter] = _UNITS[f"{_letter}I"] = _UNITS[f"{_letter}IB"] = 1024**_power
    _UNITS[f"{_letter}B"] = 1000**_power

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_ORDER = ["d", "h", "m", "s", "ms"]

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*")
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|min|m|h|d)", re.IGNORECASE)

_SIZES_ARE = "a size is a number of bytes, or a number with K, M, G, T, P, KiB … (powers of 1024) or KB, MB … (of 1000)"
_DURATIONS_ARE = "a duration is a number of seconds, or like 90s, 10min, 1h 30m, 2d"


def parse_size(size: str | float) -> int:
    """Bytes. Raises `SizeError` that says what was given and what is accepted."""
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is None or match[2].upper() not in _UNITS:
            raise SizeError(f"{size!r} is not a size: {_SIZES_ARE}")
        count = Decimal(match[1]) * _UNITS[match[2].upper()]
    else:
        count = _number(size, "size", _SIZES_ARE)
    if count > LARGEST:
        raise SizeError(f"{_shown(size)} is too large: the largest size is {format_size(LARGEST)}")
    return math.ceil(count)


def parse_duration(duration: str | float) -> float:
    """Seconds. Raises `SizeError` that says what was given and what is accepted."""
    if not isinstance(duration, str):
        seconds: float | None = float(_number(duration, "duration", _DURATIONS_ARE))
    else:
        seconds = _plain(duration)
        if seconds is None:
            seconds = _parts(duration)
    if seconds is None or not math.isfinite(seconds):
        raise SizeError(f"{_shown(duration)} is not a duration: {_DURATIONS_ARE}")
    return seconds


def format_size(size: int) -> str:
    """For people: "512 B", "1.5 GiB". `parse_size` reads it again, to three digits or so."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    unit = ""
    for letter in _LETTERS:
        value, unit = value / 1024, f"{letter}iB"
        if value < 999.5:  # beyond, three digits would show 1e+03
            break
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"


def format_duration(seconds: float) -> str:
    """For people: "35 ms", "1.2 s", "3m 20s", "2d 1h". `parse_duration` reads it again."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def _number(value: object, what: str, accepted: str) -> Decimal:
    """`value` if it is a finite number, not negative, and not a bool (which Python counts as a number)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise SizeError(f"{_shown(value)} is not a {what}: {accepted}")
    return Decimal(value)


def _shown(value: object) -> str:
    try:
        return repr(value) if isinstance(value, str) else f"{value!r:.80}"
    except ValueError:  # Python does not write numbers of more than some thousand digits
        return "a number with thousands of digits"


def _plain(text: str) -> float | None:
    match = _SIZE.fullmatch(text)
    return float(match[1]) if match and not match[2] else None


def _parts(text: str) -> float | None:
    """The sum of parts such as "1h 30m"; None unless each unit is smaller than the one before."""
    total, position, last = Decimal(0), 0, -1
    while position < len(text.rstrip()):
        match = _PART.match(text, position)
        if match is None:
            return None
        unit = match[2].lower().replace("min", "m")
        if _ORDER.index(unit) <= last:
            return None
        last = _ORDER.index(unit)
        total += Decimal(match[1]) * _SECONDS[unit]
        position = match.end()
    return float(total) if last >= 0 else None
