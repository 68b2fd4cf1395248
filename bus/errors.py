"""The root of orch's exceptions, and what can go wrong with a log. `orch.errors` has the whole tree.

`exit_code` is what the `orch` command exits with when one of them ends it.
"""

from __future__ import annotations

from pathlib import Path


class OrchError(Exception):
    """Anything that orch raises on purpose. `str()` is fit to be shown to a user."""

    exit_code = 1


class LogDamaged(OrchError):
    """A log is broken before its tail: a line is changed, missing or out of order. Names file and offset.

    `path`, `offset` (bytes) and `why` have the same for programs; `path` is None where the message alone tells.
    """

    exit_code = 4
    path: Path | None = None
    offset: int = 0
    why: str = ""


def damaged(path: Path, offset: int, why: str) -> LogDamaged:
    """The error for a place in a segment."""
    error = LogDamaged(f"{path}: damaged at byte {offset}: {why}")
    error.path, error.offset, error.why = path, offset, why
    return error


class LogTrouble(OrchError):
    """The log could not be written or read (disk full, I/O error). Final for this leader: nothing is tried again."""

    exit_code = 6


class RunBusy(OrchError):
    """Another leader is alive; the message has its host, pid and since when."""

    exit_code = 3


class Fenced(OrchError):
    """A later leader has taken over; what this one still wrote is void."""

    exit_code = 3


class LogTooNew(LogDamaged):
    """The log has events of a type or version that this orch does not know: it must not carry the run on."""
