"""The clock, as an argument: the log's times come from here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

Clock = Callable[[], str]
"""Gives the time now: UTC, ISO 8601, microseconds, "Z"."""


def system_clock() -> str:
    """The time of this host."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
