"""`orch.promised`: a resource computed from values that are not known yet, without a job of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orch.errors import UserError


class Promised:
    """`fn` is to be called with `args`, once the jobs that stand in `args` are values."""

    __slots__ = ("args", "fn")

    def __init__(self, fn: Callable[[Any], Any], args: Any) -> None:
        self.fn = fn
        self.args = args

    def __repr__(self) -> str:
        return f"<promised {getattr(self.fn, '__qualname__', self.fn)} of {self.args!r:.60}>"

    def resolve(self) -> Any:
        """What the function gives, in the worker. Raises whatever it raises."""
        return self.fn(self.args)


def promised(fn: Callable[[Any], Any], args: Any) -> Any:
    """For an option that depends on values: `disk=orch.promised(sum, [a["size"], b["size"]])`.

    `fn` is a plain function, which gets `args` as its one argument, with values in place of jobs, and gives what the
    option takes: a size, a number … Raises `UserError` where `fn` cannot be called.
    """
    from orch.authoring.pickling import misplaced  # only where it is used: this module is imported to be unpickled

    if misplaced(fn) or not callable(fn):
        raise UserError(f"orch.promised takes a plain function and its argument; {fn!r:.80} is no plain function")
    return Promised(fn, args)
