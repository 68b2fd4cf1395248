"""Canonical digests: the same for equal values everywhere, and others for others."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import pathlib
import re
import struct
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import digests as things
from support.digests import Elsewhere

import orch
from orch.work.canonical import Uncacheable, digest

FILE = orch.FileRef("a.txt", "runs/r/files/000/1.1/0/a.txt", 3, "sha256:abc")


@pytest.fixture(scope="module")
def others() -> Iterator[list[Elsewhere]]:
    made = [Elsewhere(seed) for seed in (1, 2)]
    yield made
    for each in made:
        each.close()


# What there is ----------------------------------------------------------------------------------------------------

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.sampled_from([things.Colour.RED, things.Colour.BLUE, things.Flag.A | things.Flag.B, FILE])
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.fractions()
    | st.builds(pathlib.PurePosixPath, st.text("abc", max_size=3)),
    lambda parts: st.tuples(parts, parts) | st.frozensets(parts, max_size=4) | st.builds(things.Frozen, parts),
    max_leaves=4,
)

values = st.recursive(
    hashable | st.floats(),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(hashable, parts, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.builds(things.Pair, parts, parts)
        | st.builds(things.Point, parts, parts)
        | st.builds(things.Plain, a=parts, b=parts)
        | st.builds(things.Slotted, parts)
        | st.builds(things.Told, parts)
        | st.builds(things.Words, st.lists(parts, max_size=3))
        | st.builds(things.Members, st.sets(hashable, max_size=3))
        | st.builds(things.Table, st.dictionaries(hashable, parts, max_size=3))
        | st.builds(collections.OrderedDict, st.dictionaries(hashable, parts, max_size=3))
        | st.builds(collections.Counter, st.lists(hashable, max_size=3))
    ),
    max_leaves=12,
)


def mixed(value: Any) -> Any:
    """An equal value that shares nothing with this one, its dicts and sets made in another order."""
    if type(value) in (list, tuple):
        return type(value)([mixed(part) for part in value])
    if type(value) is dict:
        return {mixed(key): mixed(part) for key, part in reversed(value.items())}
    if type(value) in (set, frozenset):
        return type(value)(list(map(mixed, value))[::-1])
    if isinstance(value, things.Plain):
        return things.Plain(**mixed(vars(value)))
    return copy.deepcopy(value)


@settings(deadline=None)
@given(values)
def test_equal_values_have_equal_digests_in_every_process(others: list[Elsewhere], value: Any) -> None:
    found = {digest(value), digest(mixed(value)), *(each.digest(value) for each in others)}
    assert len(found) == 1
    assert re.fullmatch("sha256:[0-9a-f]{64}", found.pop())


# Few values, so that equal ones are met as well.
small = st.recursive(
    st.sampled_from([None, 0, 1, 0.0, -0.0, 1.0, math.nan, True, False, "", "0", b"", b"0", ..., 1j]),
    lambda parts: (
        st.lists(parts, max_size=2)
        | st.tuples(parts)
        | st.dictionaries(st.sampled_from([0, "a", (), ""]), parts, max_size=2)
        | st.builds(things.Pair, parts, parts)
        | st.builds(things.Point, parts, parts)
        | st.builds(things.Plain, x=parts)
        | st.builds(things.Slotted, parts)
    ),
    max_leaves=4,
)


def same(one: Any, other: Any) -> bool:
    """Are they equal, types included? By other means than a digest."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, things.Slotted):
        return same(one.a, other.a)
    if isinstance(one, things.Point | things.Plain):
        return same(vars(one), vars(other))
    return bool(one == other)


@settings(max_examples=400, deadline=None)
@given(small, small)
def test_digests_are_equal_for_equal_values_only(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == same(one, other)


@settings(deadline=None)
@given(st.lists(small, min_size=2, max_size=6))
def test_where_a_value_ends_is_told(parts: list[Any]) -> None:
    """Encodings are put one behind the other: none must be the beginning of another."""
    grouped = [[parts[:cut], parts[cut:]] for cut in range(len(parts) + 1)]
    assert len({digest(each) for each in [parts, *grouped]}) == len(parts) + 2


# One by one -------------------------------------------------------------------------------------------------------


def a_function(*_args: int) -> None:
    """To be passed on by its name."""


@orch.job
def a_job() -> None:
    """Likewise."""


WITH_NAMES: list[Any] = [
    a_function,
    a_job,
    len,
    math.sin,
    dict,
    things.Point,
    things.Special,
    things.Node,
    threading.Lock,
    dt.datetime,
]

DIFFERENT: list[Any] = [
    *WITH_NAMES,
    FILE,
    dataclasses.replace(FILE, name="b.txt"),
    dataclasses.replace(FILE, digest="sha256:def"),
    dataclasses.replace(FILE, executable=True),
    orch.DirRef(FILE.name, FILE.path, FILE.size, FILE.digest),
    (1, 2),
    [1, 2],
    {1, 2},
    frozenset({1, 2}),
    things.Pair(1, 2),
    things.Words([1, 2]),
    things.Members({1, 2}),
    collections.deque([1, 2]),
    collections.deque([1, 2], maxlen=2),
    {1: 2},
    things.Table({1: 2}),
    collections.OrderedDict({1: 2}),
    collections.defaultdict(list, {1: 2}),
    collections.defaultdict(dict, {1: 2}),
    collections.OrderedDict([(1, 1), (2, 2)]),
    collections.OrderedDict([(2, 2), (1, 1)]),
    bytearray(b"12"),
    b"12",
    "12",
    12,
    decimal.Decimal(12),
    fractions.Fraction(12),
    1.2e1,
    12 + 0j,
    things.Colour.RED,
    things.Colour.BLUE,
    things.Flag.A,
    things.Flag.A | things.Flag.B,
    pathlib.PurePosixPath("12"),
    pathlib.PureWindowsPath("12"),
    uuid.UUID(int=12),
    re.compile("12"),
    re.compile("12", re.IGNORECASE),
    range(12),
    slice(12),
    dt.timedelta(12),
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 1),  # noqa: DTZ001 - it is the difference
    dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    functools.partial(a_function, 1),
    functools.partial(a_function, 2),
    types.SimpleNamespace(a=1),
    list[int],
    "12".upper,
    ValueError("12"),
    TypeError("12"),
]


def test_these_all_differ_and_are_the_same_elsewhere(others: list[Elsewhere]) -> None:
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)
    for value in DIFFERENT:
        if value not in (a_function, a_job) and not isinstance(value, functools.partial):
            assert others[0].digest(value) == digest(value)


def test_all_nans_are_one() -> None:
    nans = [
        struct.unpack("!d", bits)[0]
        for bits in (b"\x7f\xf8" + bytes(6), b"\xff\xf8" + bytes(6), b"\x7f\xf8" + b"\1" * 6)
    ]
    assert len({struct.pack("!d", nan) for nan in nans}) == 3
    assert len({digest([nan]) for nan in nans}) == 1


def test_the_place_of_a_file_in_the_store_does_not_count() -> None:
    assert digest(FILE) == digest(dataclasses.replace(FILE, path="runs/other/files/000/7.2/3/a.txt"))


def test_what_was_computed_on_the_side_does_not_count() -> None:
    point, other = things.Point(1, 2), things.Point(1, 2)
    assert point.sum
    assert digest(point) == digest(other)
    other.more = 3  # type: ignore[attr-defined]  # but this can be seen by whoever gets it
    assert digest(point) != digest(other)


def test_what_is_shared_counts_like_copies_and_costs_nothing() -> None:
    part = {"a": [1, 2]}
    assert digest([part, part]) == digest([part, copy.deepcopy(part)])
    deep: Any = [1]
    for _ in range(200):
        deep = [deep, deep]
    assert digest(deep) == digest(deep)


def test_circles() -> None:
    def circle(name: str) -> Any:
        made: dict[str, Any] = {name: []}
        made[name].append(made)
        return made

    assert digest(circle("a")) == digest(circle("a"))
    assert digest(circle("a")) != digest(circle("b"))
    assert digest([circle("a"), circle("a")]) == digest([circle("a")] * 2)

    def tree() -> Any:
        return things.Node(things.Node(), things.Node(things.Node(), things.Node()))

    assert digest(tree()) == digest(tree())
    assert digest(tree()) != digest(things.Node(things.Node(things.Node(), things.Node()), things.Node()))
    one = tree()
    assert digest([one, one.below[1]]) == digest([one, one.below[1]])


def test_there_is_an_end_to_circles() -> None:
    nodes = [things.Plain() for _ in range(30)]
    for node in nodes:
        node.all = list(nodes)  # type: ignore[attr-defined]  # it has any part
    with pytest.raises(Uncacheable, match="too many of its parts refer to each other"):
        digest(nodes)


def local() -> Callable[[], None]:
    def inner() -> None:
        """Without a name at the top."""

    return inner


class Odd:
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class Odder:
    def __reduce__(self) -> Any:
        return 3


deep: Any = []
for _ in range(100_000):
    deep = [deep]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (lambda: 1, "<lambda> has no name that can be imported: define it at the top of a module"),
        (local(), "local.<locals>.inner has no name"),
        ([{"a": local()}], "local.<locals>.inner has no name"),
        (enum.Enum("Made", "A B").A, "Made has no name"),  # type: ignore[attr-defined]  # made on purpose
        (threading.Lock(), "a lock cannot be taken apart: TypeError: cannot pickle '_thread.lock' object"),
        ((each for each in [1]), "a generator cannot be taken apart"),
        (Odd(), "a Odd cannot be taken apart: RuntimeError: no"),
        (Odder(), "it cannot be looked at: TypeError: "),
        (orch.FileRef("a", "b"), "'a' is a FileRef without a digest: it was not made by a store"),
        (deep, "it is nested too deeply"),
    ],
)
def test_what_has_no_digest_says_why(value: Any, why: str) -> None:
    with pytest.raises(Uncacheable) as caught:
        digest(value)
    assert why in str(caught.value)
