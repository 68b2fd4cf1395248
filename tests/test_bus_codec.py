"""Events and lines: what goes in comes out, or is refused."""

from __future__ import annotations

import json
import math
import types
import typing
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.bus import events as ev
from orch.bus.codec import CODEC, RESERVED, BadLine, Codec, Unknown, finish, intact, type_name
from orch.bus.jsonable import clean_text, is_jsonable, jsonable

TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["\u2028", '"end":true,"crc":"', "\n", "null"]
)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOAT | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**53),
    str: TEXT,
    bool: st.booleans(),
    float: FLOAT,
    bytes: st.binary(max_size=20),
    Any: JSON,
    type(None): st.none(),
}
ENVELOPE = {"seq", "time", "epoch", "group", "v"}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is tuple and Ellipsis not in arguments:
        return st.tuples(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if origin in {types.UnionType, typing.Union}:
        return st.one_of([values(a) for a in arguments])
    return structs(hint)


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Instances of a struct, the envelope left at its defaults."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: values(hints[f.name]) for f in msgspec.structs.fields(kind) if f.name not in ENVELOPE}
    return st.builds(kind, **fields)


def line_of(codec: Codec, event: ev.Event, seq: int = 5, *, end: bool = True) -> bytes:
    """The event's line, as the log makes it."""
    middle = codec.envelope("2030-01-02T03:04:05.000006Z", 2, 4)
    (line,) = codec.open_lines(codec.encode([event]), seq, middle)
    codec.stamp([event], seq, "2030-01-02T03:04:05.000006Z", 2, 4)
    return finish(line, end=end)


@pytest.mark.parametrize("kind", ev.KNOWN, ids=type_name)
@given(data=st.data())
def test_what_is_written_is_read(kind: type[ev.Event], data: st.DataObject) -> None:
    event = data.draw(structs(kind))
    line = line_of(CODEC, event, end=data.draw(st.booleans()))
    assert line.count(b"\n") == 1
    assert CODEC.decode(line) == event
    head = json.loads(line)
    assert list(head)[:5] == ["seq", "time", "epoch", "group", "type"]
    assert list(head)[-1] == "crc"
    covered = line[: line.rindex(b',"crc":')]
    assert head["crc"] == f"{crc32(covered):08x}"
    assert (head["seq"], head["epoch"], head["group"], head["type"]) == (5, 2, 4, type_name(event))


@given(value=JSON)
def test_json_values_are_kept_as_they_are(value: Any) -> None:
    assert is_jsonable(value)
    assert jsonable(value) == value


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        ([math.inf], "[inf]"),
        (b"x", "b'x'"),
        ({1: 2}, "{1: 2}"),
        (2**64, str(2**64)),
        ("a\udcff", "a\\udcff"),
        ({"k": "\udcff"}, "{'k': '\\udcff'}"),
        ((1, (2,)), [1, [2]]),
        ({1, 2} - {2}, "{1}"),
        (Odd(), "<Odd: repr failed: RuntimeError>"),
    ],
)
def test_other_values_are_shown(value: Any, shown: Any) -> None:
    assert not is_jsonable(value)
    assert jsonable(value) == shown
    assert is_jsonable(jsonable(value))


def test_values_nested_too_deeply_are_shown() -> None:
    value: Any = []
    for _ in range(100):
        value = [value]
    assert isinstance(jsonable(value), str)
    line_of(CODEC, ev.Annotated(job=1, attempt=1, name="n", value=jsonable(value)))


def test_clean_text_keeps_text_and_escapes_what_is_none() -> None:
    assert clean_text("ü\u2028") == "ü\u2028"
    assert clean_text("a\udc80") == "a\\udc80"


@pytest.mark.parametrize(
    "event",
    [
        ev.Annotated(job=1, attempt=1, name="n", value=math.nan),
        ev.Annotated(job=1, attempt=1, name="n", value=(1,)),
        ev.Annotated(job=1, attempt=1, name="n", value={"k": b"x"}),
        ev.Created(run="r", settings={"k": 2**70}),
        ev.Warned(message="\udcff"),
        ev.Added(job=1, kind="k", resources=ev.Resources(cores=math.nan)),
        ev.Succeeded(job=1, attempt=1, usage=ev.Usage(wall=math.inf)),
        ev.Event(),
        Unknown(kind="x"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_json_cannot_hold_is_refused(event: ev.Event) -> None:
    with pytest.raises(ValueError, match=r"cannot be written|can be written"):
        CODEC.encode([ev.Warned(message="good"), event])


def test_an_event_has_one_place_only() -> None:
    event = ev.Warned(message="x")
    line_of(CODEC, event)
    with pytest.raises(ValueError, match="in a log already, as number 5"):
        CODEC.encode([event])


def test_a_crc_is_compared_as_text() -> None:
    line = line_of(CODEC, ev.Warned(message="x"))
    assert intact([line[:-1]])
    shouted = line[:-11] + line[-11:-3].upper() + line[-3:]
    assert shouted != line
    assert not intact([shouted[:-1]])
    with pytest.raises(BadLine):
        CODEC.decode(shouted)


@pytest.mark.parametrize("text", [b"", b"x", b"{}", b'{"seq":1}', b"[1]"])
def test_what_is_no_line_is_refused(text: bytes) -> None:
    with pytest.raises(BadLine):
        CODEC.decode(text)
    with pytest.raises(BadLine):
        CODEC.decode(finish(text, end=False))


def test_no_event_uses_a_name_of_the_envelope() -> None:
    for kind in ev.KNOWN:
        own = {f.name for f in msgspec.structs.fields(kind)} - ENVELOPE
        assert not own & RESERVED, kind


def test_an_unknown_type_is_passed_through() -> None:
    line = finish(b'{"seq":3,"time":"t","epoch":1,"group":3,"type":"levitated","height":2', end=True)
    event = CODEC.decode(line)
    assert isinstance(event, Unknown)
    assert (event.seq, event.group, event.kind, event.v, event.raw) == (3, 3, "levitated", 1, line[:-1])
    assert type_name(event) == "levitated"


def test_a_newer_version_is_unknown_even_if_it_looks_the_same() -> None:
    line = finish(b'{"seq":3,"time":"t","epoch":1,"group":3,"v":2,"type":"warned","message":"x"', end=True)
    event = CODEC.decode(line)
    assert isinstance(event, Unknown)
    assert (event.kind, event.v) == ("warned", 2)


def test_unknown_lines_do_not_hide_their_neighbours() -> None:
    lines = [
        finish(b'{"seq":%d,"time":"t","epoch":1,"group":1,"type":"%b","message":"x"' % (k, kind), end=False)
        for k, kind in enumerate([b"warned", b"levitated", b"warned"])
    ]
    block = b"".join(lines)
    events = CODEC.decode_block(block)
    assert [type_name(e) for e in events] == ["warned", "levitated", "warned"]
    assert [e.seq for e in events] == [0, 1, 2]


def test_new_fields_of_a_known_version_are_ignored() -> None:
    line = finish(b'{"seq":3,"time":"t","epoch":1,"group":3,"type":"warned","message":"x","colour":"red"', end=True)
    assert CODEC.decode(line) == ev.Warned(seq=3, time="t", epoch=1, group=3, message="x")


class Moved(ev.Event, frozen=True, tag="moved", gc=False):
    """An event at version 3: `place` was `x`, then `x` and `y`."""

    place: list[int]


def _second(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "y": 0}


def _third(raw: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in raw.items() if k not in {"x", "y"}}, "place": [raw["x"], raw["y"]], "type": "moved"}


MOVING = Codec((Moved, ev.Warned), {"moved": 3}, {("went", 1): _second, ("went", 2): _third})


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (b'"type":"went","x":4', [4, 0]),
        (b'"v":2,"type":"went","x":4,"y":5', [4, 5]),
        (b'"v":3,"type":"moved","place":[4,6]', [4, 6]),
    ],
)
def test_old_versions_are_cast_up_step_by_step(line: bytes, place: list[int]) -> None:
    event = MOVING.decode(finish(b'{"seq":3,"time":"t","epoch":1,"group":3,' + line, end=True))
    assert event == Moved(seq=3, time="t", epoch=1, group=3, v=3, place=place)


def test_a_version_without_an_upcaster_is_unknown() -> None:
    line = finish(b'{"seq":3,"time":"t","epoch":1,"group":3,"v":2,"type":"moved","place":[4,6]', end=True)
    assert isinstance(MOVING.decode(line), Unknown)


def test_a_later_version_is_written_with_its_number() -> None:
    event = Moved(place=[1, 2])
    line = line_of(MOVING, event)
    assert b'"group":4,"v":3,"type":"moved"' in line
    assert event.v == 3
    assert MOVING.decode(line) == event
    assert MOVING.decode(line_of(MOVING, ev.Warned(message="x"))) == ev.Warned(
        seq=5, time="2030-01-02T03:04:05.000006Z", epoch=2, group=4, message="x"
    )
