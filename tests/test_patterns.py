"""Patterns that users give: what is refused, and that the rest takes no time worth mentioning."""

from __future__ import annotations

import pytest

from orch.attempt import Outcome, Reason
from orch.patterns import LONGEST, MOST_LONG, MOST_STEPS, MOST_TEXT, found, problem
from orch.state.policy import matches

FINE = [
    "connection (reset|refused)",
    r"(?i)time.?out after \d+ of \d+ s, \d+ tries on \w+ left",
    r"\b(out of memory|OOM)\b.*(host|node) \w+",
    r"(\d{1,3}\.){3}\d{1,3}",
    "(?:ab)+ [a-z]* .*x",
    "((a{5}){5}){5}",
    "(a|b)+",  # one of a set of characters, as `re` has it
    "no.*space.*left",
]
TOO_SLOW = [
    "(a+)+$",
    "(a*)*b",
    r"(\w+\s?)*$",
    "(x+x+)+y",
    "(a|aa)+$",
    "(?:foo|bar){0,99}x",
    "(a?){30}a{30}",
    "a?" * 30 + "a" * 30,
    "(?=(a+)+b)",
    "(?>(a+)+b)",
    "(?:(a+)+b)++",
    "(a)?(?(1)(b+)+c|d)",
    ".*" * (MOST_LONG + 1),
    r"\d+\d+\d+ \d+\d+\d+x",
    "a+( )?a+( )?a+( )?a+x",
]


@pytest.mark.parametrize("pattern", FINE)
def test_what_people_write_is_fine(pattern: str) -> None:
    assert problem(pattern) == ""


@pytest.mark.parametrize("pattern", TOO_SLOW)
def test_what_can_take_for_ever_is_refused_and_not_searched_for(pattern: str) -> None:
    assert problem(pattern).startswith("to search for it can take for ever: ")
    assert not found(pattern, "a" * 5000)


@pytest.mark.parametrize("pattern", ["(", "*", "(" * 900, "a{99999999999999}"])
def test_what_is_no_regular_expression_is_refused(pattern: str) -> None:
    assert problem(pattern).startswith("it is no regular expression: ")
    assert not found(pattern, pattern)


def test_what_is_too_long_is_refused() -> None:
    assert problem("a" * LONGEST) == ""
    assert problem("a" * (LONGEST + 1)) == "a pattern has up to 1000 characters"


def test_the_beginning_is_searched_and_less_of_it_where_that_takes_long() -> None:
    assert found("ab", "b" * (MOST_TEXT - 3) + "ab")
    assert not found("ab", "b" * (MOST_TEXT - 1) + "ab")
    slow = ".*.*.*x"
    assert found(slow, "b" * 100 + "x")
    assert not found(slow, "b" * int((MOST_STEPS * 24) ** 0.25) + "x")


def test_what_stands_in_an_old_log_does_no_harm() -> None:
    outcome = Outcome(key="k", reason=Reason.FAILED, message="a" * 5000)
    assert matches("message:a+$", outcome)
    assert not matches("message:(a+)+$", outcome)
    assert not matches("message:(", outcome)
