"""The workflow's own options."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pytest

from orch.cli.workflow_help import render
from orch.errors import WorkflowError
from orch.files import FileRef
from orch.work.options import Parameter, describe, parse_argv


class Colour(enum.Enum):
    RED = "r"
    BLUE = 2


def flow(  # type: ignore[no-untyped-def]
    n: int,
    ratio: float = 0.5,
    name: str = "x y",
    fast: bool = False,
    data_dir: Path = Path("d"),
    colour: Colour = Colour.RED,
    mode: Literal["a", "b", 3] = "a",
    many: list[int] = [],  # noqa: B006
    pair: tuple[str, ...] = (),
    seq: Sequence[float] | None = None,
    maybe: Optional[int] = None,  # noqa: UP045
    either: Union[int, str] = 0,  # noqa: UP007
    noted: Annotated[int, "note"] = 1,
    untyped=7,  # noqa: ANN001
    anything: Any = None,
    *,
    last: int | None = None,
    **more: int,
) -> None:
    """Do things.

    In two paragraphs.
    """


def test_description() -> None:
    found = describe(flow)
    assert (found.function, found.help) == ("flow", "Do things.\n\nIn two paragraphs.")
    by_name = {one.name: one for one in found.parameters}
    assert by_name["n"] == Parameter("n", "--n", "int", required=True)
    assert by_name["data_dir"] == Parameter("data_dir", "--data-dir", "path", default="d")
    assert by_name["fast"] == Parameter("fast", "--fast", "true|false", default="False", flag=True)
    assert by_name["colour"].choices == ["RED", "BLUE"]
    assert by_name["colour"].default == "RED"
    assert by_name["mode"].type == "a|b|3"
    assert (by_name["many"].type, by_name["many"].many) == ("int", True)
    assert by_name["maybe"].type == "int"
    assert by_name["either"].type == "int|str"
    assert by_name["untyped"].type == "int"
    assert by_name["anything"].type == "str"
    assert "more" not in by_name


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--n=-3"], {"n": -3}),
        (["--n", "-3", "--ratio", "1e3"], {"n": -3, "ratio": 1000.0}),
        (["--n", "1", "--n", "2"], {"n": 2}),
        (["--n=1", "--name="], {"n": 1, "name": ""}),
        (["--n=1", "--name", "--odd"], {"n": 1, "name": "--odd"}),
        (["--n=1", "--name=a=b"], {"n": 1, "name": "a=b"}),
        (["--n=1", "--fast"], {"n": 1, "fast": True}),
        (["--n=1", "--no-fast"], {"n": 1, "fast": False}),
        (["--n=1", "--fast=yes"], {"n": 1, "fast": True}),
        (["--n=1", "--data-dir", "x/y"], {"n": 1, "data_dir": Path("x/y")}),
        (["--n=1", "--data_dir", "x/y"], {"n": 1, "data_dir": Path("x/y")}),
        (["--n=1", "--colour", "BLUE"], {"n": 1, "colour": Colour.BLUE}),
        (["--n=1", "--colour", "r"], {"n": 1, "colour": Colour.RED}),
        (["--n=1", "--mode", "3"], {"n": 1, "mode": 3}),
        (["--n=1", "--many", "1", "--many=2"], {"n": 1, "many": [1, 2]}),
        (["--n=1", "--pair", "a"], {"n": 1, "pair": ("a",)}),
        (["--n=1", "--seq", "1.5"], {"n": 1, "seq": [1.5]}),
        (["--n=1", "--maybe", "4"], {"n": 1, "maybe": 4}),
        (["--n=1", "--either", "4"], {"n": 1, "either": 4}),
        (["--n=1", "--either", "four"], {"n": 1, "either": "four"}),
        (["--n=1", "--noted", "4"], {"n": 1, "noted": 4}),
        (["--n=1", "--untyped", "8"], {"n": 1, "untyped": 8}),
        (["--n=1", "--last", "8"], {"n": 1, "last": 8}),
    ],
)
def test_tokens(argv: list[str], expected: dict[str, Any]) -> None:
    assert parse_argv(flow, argv) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "option --n (int) is required"),
        (["--n"], "option --n needs a value (int)"),
        (["--n", "abc"], "option --n: 'abc' is not an int"),
        (["--n=1", "--ratio", "x"], "option --ratio: 'x' is not a float"),
        (["--n=1", "--fast=perhaps"], "option --fast: 'perhaps' is not one of true, false"),
        (["--n=1", "--mode", "c"], "option --mode: 'c' is not one of a, b, 3"),
        (["--n=1", "--colour", "green"], "is not one of RED, BLUE"),
        (["--n=1", "--many", "x"], "option --many: 'x' is not an int"),
        (["--n=1", "--maybe", "x"], "option --maybe: 'x' is not an int"),
        (["--n=1", "--data-dri", "x"], "unknown option --data-dri; did you mean --data-dir?"),
        (["--n=1", "--no-name"], "unknown option --no-name"),
        (["--zzz"], "its options: --n int, --ratio float"),
        (["12"], "unexpected argument '12'"),
        (["--", "12"], "unexpected argument '--'"),
    ],
)
def test_wrong_tokens(argv: list[str], message: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        parse_argv(flow, argv)
    assert message in str(raised.value)


def test_no_options() -> None:
    with pytest.raises(WorkflowError, match="this workflow has no options"):
        parse_argv(lambda: None, ["--x"])


def test_types_that_a_command_line_cannot_give() -> None:
    def odd(x: dict[str, int], f: Callable[[], int] = lambda: 1) -> None: ...

    assert describe(odd).parameters[0].type == "dict"
    with pytest.raises(WorkflowError, match="option --x: a value of this type cannot be given on the command line"):
        parse_argv(odd, ["--x", "1"])
    assert [one.barred for one in describe(odd).parameters] == [True, True]
    with pytest.raises(
        WorkflowError, match=r"parameter x is required, .* \(dict\) cannot be given .* orch\.run\(…, x=…"
    ):
        parse_argv(odd, [])
    with pytest.raises(WorkflowError, match="unknown option --y; this workflow has no options"):
        parse_argv(odd, ["--y", "1"])


def test_help_says_what_a_command_line_cannot_give() -> None:
    def odd(x: dict[str, int], n: int = 1) -> None: ...

    *_, first, second = render(describe(odd), "wf.py")
    assert first == "  --x dict  required; cannot be given here: start the run with orch.run"
    assert second == "  --n int   default: 1"


def test_one_of_several_types_that_can_be_given_is_enough() -> None:
    def odd(x: dict[str, int] | int) -> None: ...

    assert parse_argv(odd, ["--x", "1"]) == {"x": 1}
    assert not describe(odd).parameters[0].barred


def test_annotations_that_cannot_be_read() -> None:
    def odd(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(WorkflowError, match="odd: its annotations cannot be read: name 'Missing'"):
        describe(odd)


def test_positional_only_parameters() -> None:
    def odd(x: int, /) -> None: ...

    with pytest.raises(WorkflowError, match="positional-only"):
        describe(odd)


def test_file_references() -> None:
    def one(ref: FileRef) -> None: ...

    ref = FileRef("a", "b")
    assert parse_argv(one, ["--ref", str(ref)]) == {"ref": ref}
