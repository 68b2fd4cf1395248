"""Canonical digests of what numpy makes: the same for equal arrays, however they lie in memory; others for others."""

from __future__ import annotations

import copy
import hashlib
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as made
from support.digests import Elsewhere, Sheet

from orch.work.canonical import digest

A = np.arange(12.0).reshape(3, 4)
PAIR = [("a", "i4"), ("b", "f8")]
"""Twelve bytes; aligned, sixteen."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    process = Elsewhere(1)
    yield process
    process.close()


def objects(*parts: Any) -> Any:
    filled = np.empty(len(parts), dtype=object)
    filled[:] = parts
    return filled


def bits(text: str, dtype: Any) -> Any:
    return np.frombuffer(bytes.fromhex(text), dtype=dtype)


def padded(fill: int) -> Any:
    """One record, with something in the bytes between its fields."""
    dtype = np.dtype(PAIR, align=True)
    record = np.full(dtype.itemsize, fill, dtype=np.uint8).view(dtype)
    record["a"], record["b"] = 1, 2
    return record


def extended(fill: int) -> Any:
    """A long double: on x86 ten of its sixteen bytes mean something."""
    number = np.full(np.dtype("g").itemsize, fill, dtype=np.uint8)
    number[:10] = np.array([1.5], "g").view(np.uint8)[:10]
    return number.view("g")


def without_names(fill: int) -> Any:
    """Rows whose padding is in no field, made of a longer row."""
    rows = np.full((2, 4), fill, dtype=np.uint8)
    rows[:, 1] = 7
    return rows.view(np.dtype({"names": ["x"], "formats": ["u1"], "offsets": [1], "itemsize": 4}))[:, 0]


def locked(array: Any) -> Any:
    array = array.copy()
    array.setflags(write=False)
    return array


def hidden(value: int, **more: Any) -> Any:
    return np.ma.array([1, value, 3], mask=[False, True, False], **more)


def asked(array: Any) -> Any:
    """After somebody has looked at what it fills with, which it then keeps."""
    assert array.fill_value is not None
    return array


SAME: dict[str, tuple[Any, Any]] = {
    "order": (A, np.asfortranarray(A)),
    "transposed": (A.T, np.ascontiguousarray(A.T)),
    "backwards": (A, A[::-1].copy()[::-1]),
    "a part": (A[1:, ::2], A[1:, ::2].copy()),
    "of a longer one": (A, np.arange(24.0)[:12].reshape(3, 4)),
    "repeated": (np.broadcast_to(np.float64(3), (4, 2)), np.full((4, 2), 3.0)),
    "locked": (A, locked(A)),
    "other names of types": (np.array([1], "l"), np.array([1], "q")),
    "scalars with other names": (np.longlong(1), np.int64(1)),
    "order of bytes": (A, A.astype(">f8")),  # pickle.dumps gives it to the one who reads in his own order
    "order of bytes of fields": (np.ones(2, PAIR), np.ones(2, [("a", ">i4"), ("b", "<f8")])),
    "order of bytes of letters": (np.array(["ab"]), np.array(["ab"], ">U2")),
    "order of bytes of a date": (np.array([1], "M8[s]"), np.array([1], ">M8[s]")),
    "a scalar from an array": (A[1, 1], np.float64(5)),
    "NaN": (bits("010000000000f87f", "f8"), np.array([np.nan])),
    "NaN with a sign": (bits("000000000000f8ff", "f8"), np.array([np.nan])),
    "NaN, the other order": (bits("7ff8000000000001", ">f8"), np.array([np.nan], ">f8")),
    "half a NaN": (bits("017e", "f2"), np.array([np.nan], "f2")),
    "complex NaN": (bits("0100c07f0000803f", "c8"), np.array([complex(np.nan, 1)], "c8")),
    "one NaN": (bits("010000000000f87f", "f8")[0], np.float64(np.nan)),
    "NaN in a field": (bits("01000000010000000000f87f", np.dtype(PAIR)), np.array([(1, np.nan)], PAIR)),
    "long double": (extended(0), extended(255)),
    "one long double": (extended(0)[0], extended(255)[0]),
    "between fields": (padded(0), padded(255)),
    "one record": (padded(0)[0], padded(255)[0]),
    "around fields": (without_names(0), without_names(255)),
    "objects, order": (np.array([[1, "a"], [None, 2]], "O"), np.asfortranarray(np.array([[1, "a"], [None, 2]], "O"))),
    "objects, shared": (objects(A, A), objects(A, A.copy())),
    "masked, order": (np.ma.array(A, mask=A > 5), np.ma.array(np.asfortranarray(A), mask=A > 5)),
    "masked, looked at": (hidden(2), asked(hidden(2))),
    "nothing masked": (np.ma.array([1, 2]), np.ma.array([1, 2], mask=[False, False])),
    "a subclass, order": (A.view(Sheet), np.asfortranarray(A).view(Sheet)),
    "empty": (np.empty((0, 3)), np.empty((3, 0)).T),
}

DIFFERENT: list[Any] = [
    A,
    A.T,
    A.ravel(),
    A[:, :0],
    A[:0],
    A.astype("f4"),
    A.astype("i8"),
    A.astype("M8[s]"),
    A.astype("M8[D]"),
    A.astype("m8[s]"),
    A.astype("O"),
    A.view("V8"),
    A.view("u8"),
    A.view(Sheet),
    A.tolist(),
    A.tobytes(),
    np.ma.array(A),
    np.ma.array(A, mask=A > 5),
    np.ma.array(A, mask=A > 6),
    hidden(2),
    hidden(9),  # anybody can look below the mask
    hidden(2, fill_value=7),
    np.ma.masked,
    1.0,
    1,
    True,
    np.float64(1),
    np.float32(1),
    np.int64(1),
    np.uint64(1),
    np.bool_(1),
    np.array(1.0),
    np.array([1.0]),
    np.array([[1.0]]),
    np.array([0.0]),
    np.array([-0.0]),
    np.array([np.nan]),
    np.array([complex(np.nan, 1)]),
    np.array([complex(1, np.nan)]),
    np.array([np.inf]),
    np.datetime64("NaT"),
    np.datetime64("2026-01-01"),
    np.datetime64("2026-01-01", "s"),
    np.timedelta64(1, "s"),
    "ab",
    np.str_("ab"),
    np.bytes_(b"ab"),
    np.array(["ab"]),
    np.array(["ab"], "U3"),
    np.array(["ab"], "O"),
    np.array(["ab"], np.dtypes.StringDType()),
    np.array(["ab"], np.dtypes.StringDType(na_object=None)),
    np.array([b"ab"]),
    np.zeros(2, PAIR),
    np.zeros(2, PAIR)[0],
    np.zeros(2, PAIR)[:1],
    np.zeros(2, np.dtype(PAIR, align=True)),
    np.zeros(2, [("a", "i4"), ("c", "f8")]),
    np.zeros(2, [("a", "i4"), ("b", [("x", "f8")])]),
    np.zeros(2, [("a", "i4"), ("b", "f8", (1,))]),
    np.zeros(2, [("a", "i4"), ("b", "O")]),
    np.zeros(2, PAIR).view(np.recarray),
    np.zeros(2, PAIR).view(np.dtype((np.record, PAIR))),
    np.zeros(2, []),
    objects([1], [1]),
    objects(np.ones(1), np.ones(1)),
    np.dtype("f8"),
    np.dtype(">f8"),
    np.dtype("f4"),
    np.dtype(PAIR),
    np.dtype(PAIR, align=True),
    np.dtype("M8[s]"),
    np.float64,
    np.add,
    np.sum,
    np.random.default_rng(1),
    np.random.default_rng(2),
    np.polynomial.Polynomial([1, 2]),
]


@pytest.mark.parametrize("name", SAME)
def test_how_it_lies_in_memory_does_not_count(name: str) -> None:
    one, other = SAME[name]
    assert digest(one) == digest(other)
    assert digest([one, one]) == digest([one, other])


def test_these_all_differ_and_are_the_same_elsewhere(elsewhere: Elsewhere) -> None:
    found = [digest(value) for value in DIFFERENT]
    twice = [DIFFERENT[at] for at, each in enumerate(found) if found.count(each) > 1]
    assert not twice
    for value, each in zip(DIFFERENT, found, strict=True):
        assert elsewhere.digest(value) == each, value
        assert digest(copy.deepcopy(value)) == each, value


@settings(deadline=None)
@given(
    made.arrays(
        made.scalar_dtypes() | made.array_dtypes(max_size=3),
        made.array_shapes(max_dims=3, max_side=3, min_side=0),
    ),
    st.permutations(range(3)),
)
def test_a_copy_in_any_order_has_the_same_digest(value: Any, axes: list[int]) -> None:
    axes = [axis for axis in axes if axis < value.ndim]
    turned = np.ascontiguousarray(value.transpose(axes)).transpose(np.argsort(axes))
    assert digest(value) == digest(turned) == digest(pickle.loads(pickle.dumps(turned)))


def test_all_of_a_large_array_counts() -> None:
    large = np.zeros(1_500_000)  # more than is looked at in one go
    found = {digest(large)}
    for at in (0, 131_071, 131_072, len(large) - 1):
        large[at] = 1
        found.add(digest(large))
        large[at] = 0
    assert len(found) == 5
    large[-1] = -np.nan
    before = large.tobytes()
    digest(large)
    assert large.tobytes() == before


def cost(action: Callable[[], object]) -> float:
    """Seconds of the processor, at best."""

    def once() -> float:
        before = time.process_time()
        action()
        return time.process_time() - before

    return min(once() for _ in range(3))


@pytest.mark.parametrize("dtype", ["u1", "f8", "M8[s]", "U10", "c16"])
def test_an_array_costs_what_hashing_costs(dtype: str) -> None:
    """Not element by element; and where it is met again, nothing."""
    value: Any = np.zeros(16_000_000 // np.dtype(dtype).itemsize, dtype)
    hashing = cost(lambda: hashlib.sha256(value.view("u1")).digest())
    assert cost(lambda: digest(value)) < 5 * hashing + 0.01
    assert cost(lambda: digest([value] * 100)) < 10 * hashing + 0.01
