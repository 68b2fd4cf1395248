"""Reading the command line: the standard parser, with our messages and one rule more.

argparse and nothing larger, since a one-job run from the shell is measured in tenths of a second, and a richer library
costs one of them before anything has begun.

The rule: `orch run` reads its own options up to the workflow; whatever comes after that belongs to the workflow.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from orch.errors import UserError

LEVELS = ("debug", "info", "warning", "error")


class UsageError(UserError):
    """The command line cannot be read."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError`, with the option that was probably meant."""

    def __init__(self, prog: str, usage: str = "", description: str = "", epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} {usage}" if usage else None,
            description=description,
            epilog=epilog or None,
            allow_abbrev=False,
            add_help=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._flags: dict[str, bool] = {}
        self.option("-h", "--help", action="help", help="show this and leave")

    def option(self, *names: str, **how: Any) -> None:
        """Add an option (`how` as for `add_argument`), and remember whether it takes a value."""
        action = self.add_argument(*names, **how)
        for name in names:
            self._flags[name] = action.nargs == 0

    def knows(self, token: str) -> bool:
        """Is `token` one of the options (perhaps with "=value")?"""
        return token.partition("=")[0] in self._flags

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options in `arguments`. Raises `UsageError`."""
        options, unknown = self.parse_known_args(list(arguments))
        if unknown:
            self.refuse(unknown[0])
        return options

    def refuse(self, token: str) -> NoReturn:
        """Say that `token` has no meaning here."""
        if not token.startswith("-"):
            self.error(f"{token!r} is one argument too many")
        name = token.partition("=")[0]
        raise UsageError(f"{self.prog} has no option {name}{did_you_mean(name, self._flags)}; see: {self.prog} --help")

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        raise UsageError(f"{self.prog}: {message}; see: {self.prog} --help")

    def split(self, arguments: Sequence[str], last: str = "") -> int:
        """How many of `arguments` come before the first that is neither an option nor the value of one.

        The one-letter option `last`, with its value, ends them too.
        """
        position = 0
        while position < len(arguments):
            token = arguments[position]
            if not token.startswith("-") or token in ("-", "--"):
                return position
            if last and token.startswith(last):
                return min(position + (2 if token == last else 1), len(arguments))
            takes_value = not self._flags.get(token.partition("=")[0], True) and "=" not in token
            position += 2 if takes_value else 1
        return len(arguments)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question, if something is near; else nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def common_options(parser: Parser) -> None:
    """What every command takes."""
    parser.option(
        "--store",
        metavar="LOCATOR",
        default=os.environ.get("ORCH_STORE") or ".orch",
        help="the store: a directory, or file:PATH (default: $ORCH_STORE, else ./.orch)",
    )
    parser.option(
        "--log-level",
        metavar="LEVEL",
        choices=LEVELS,
        default="warning",
        help="how much to say on stderr: debug, info, warning (default), error",
    )


def natural(text: str) -> int:
    """A whole number from 1 on, for `type=`."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


natural.__name__ = "number"  # argparse names it in "invalid number value"
