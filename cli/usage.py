"""What is said of a command line that cannot be read. Light: it is imported before anything else."""

from __future__ import annotations

from collections.abc import Iterable

from orch.errors import UserError


class UsageError(UserError):
    """The command line cannot be read."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question, if something is near; else nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
