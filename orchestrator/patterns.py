"""Regular expressions that users give: they are searched for in messages by the leader, which must not be held up.

Python's `re` tries all ways in which a pattern can match, and cannot be interrupted. So patterns for which there can be
very many ways are refused, and of a text only so much is searched as takes half a second at the worst.
"""

from __future__ import annotations

import functools
import math
import re
import re._compiler as compiler  # type: ignore[import-not-found]  # no public module tells what a pattern is made of
import re._constants as sre  # type: ignore[import-not-found]  # likewise
import re._parser as parser  # type: ignore[import-not-found]  # likewise
import warnings
from typing import Any

MOST_TEXT = 500
"""Characters of a text that are searched, of a pattern that does not take long."""

LONGEST = 1000
"""Characters of a pattern."""

MOST_LONG = 3
"""Repeats without a bound, each of which could take what the one before it takes."""

MOST_CHOICES = 10
"""Other choices."""

MOST_STEPS = 10**8

_NESTING = {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}


def problem(pattern: str) -> str:
    """Why this is not searched for; empty if it is."""
    return _judged(pattern[: LONGEST + 1])[0]


def found(pattern: str, text: str) -> bool:
    """Is it in the beginning of the text? What is not searched for is not found."""
    trouble, most = _judged(pattern[: LONGEST + 1])
    return not trouble and re.search(pattern, text[:most]) is not None


@functools.lru_cache(maxsize=256)
def _judged(pattern: str) -> tuple[str, int]:
    """What is wrong, and how many characters of a text can be searched."""
    if len(pattern) > LONGEST:
        return f"a pattern has up to {LONGEST} characters", 0
    walk = _Walk()
    try:
        with warnings.catch_warnings(action="ignore"):  # what will have another meaning in a later Python has this one
            re.compile(pattern)
            walk.sequence(parser.parse(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        return f"it is no regular expression: {error}", 0
    except _TooManyWaysError as error:
        return f"to search for it can take for ever: {error}", 0
    return "", min(MOST_TEXT, walk.text())


class _TooManyWaysError(Exception):
    """There can be very many ways to match. The message says what makes them."""


class _Walk:
    """Counts what multiplies the ways, from the beginning of a pattern to its end."""

    def __init__(self) -> None:
        self._long: list[Any] = []  # what is repeated without a bound, where nothing tells yet how often
        self._most_long = 0
        self._choices = 0
        self._may_be_missing = 0

    def text(self) -> int:
        """How long a text may be: n ** repeats / repeats! * 2 ** choices steps, from each of n beginnings."""
        power = self._most_long + 1
        return int((MOST_STEPS * math.factorial(power) / 2**self._choices) ** (1 / power))

    def sequence(self, items: Any, inside: int = 1) -> None:
        """Walk over items that stand in a row, `inside` something that is repeated so often. Raises."""
        for kind, value in items:
            if kind in _NESTING:
                least, most, item = value
                self._repeat(least, int(most), item, inside)
            elif kind is sre.BRANCH:
                self._branch(value[1], inside)
            elif kind is sre.LITERAL:
                self._separate(value)
            elif kind is sre.SUBPATTERN:
                self.sequence(value[-1], inside)
            else:  # assertions, conditions, atomic groups; or none of these
                parts = value if isinstance(value, tuple) else (value,)
                self._optional([part for part in parts if isinstance(part, parser.SubPattern)], inside)

    def _optional(self, parts: list[Any], inside: int) -> None:
        self._may_be_missing += 1
        for part in parts:
            self.sequence(part, inside)
        self._may_be_missing -= 1

    def _repeat(self, least: int, most: int, item: Any, inside: int) -> None:
        if least == most and inside * most <= MOST_CHOICES:  # the same as if it were written so often
            for _ in range(most):
                self.sequence(item, inside)
            return
        if least != most:
            self._vary(most, item, inside)
        self._optional([item], LONGEST if most > 1 else inside)

    def _vary(self, times: int, item: Any, inside: int) -> None:
        if inside > MOST_CHOICES:
            raise _TooManyWaysError("it repeats what is itself repeated a varying number of times")
        if times <= MOST_CHOICES:
            self._add_choice()
            return
        self._long.append(item)
        self._most_long = max(self._most_long, len(self._long))
        if len(self._long) > MOST_LONG:
            raise _TooManyWaysError(f"more than {MOST_LONG} repeats without a bound can take the same characters")

    def _branch(self, ways: list[Any], inside: int) -> None:
        if inside > MOST_CHOICES:
            raise _TooManyWaysError("it repeats alternatives")
        self._add_choice()
        self._optional(ways, inside)

    def _add_choice(self) -> None:
        self._choices += 1
        if self._choices > MOST_CHOICES:
            raise _TooManyWaysError(f"it has more than {MOST_CHOICES} choices")

    def _separate(self, character: int) -> None:
        """A character that the last repeat cannot take tells where that ends."""
        if self._may_be_missing or not self._long:
            return
        if compiler.compile(self._long[-1], re.IGNORECASE).fullmatch(chr(character)) is None:
            self._long.pop()
