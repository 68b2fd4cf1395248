"""Sizes and durations: the one rule, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.errors import SizeError, UserError
from orch.sizes import LARGEST, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("given_size", "bytes_"),
    [
        (0, 0),
        (1048576, 1048576),
        (2.5, 3),
        ("0", 0),
        ("1048576", 1048576),
        ("512 B", 512),
        ("1b", 1),
        ("2G", 2 * 1024**3),
        ("2g", 2 * 1024**3),
        ("2Gi", 2 * 1024**3),
        ("2GiB", 2 * 1024**3),
        ("2 GiB", 2 * 1024**3),
        (" 2gib ", 2 * 1024**3),
        ("2GB", 2 * 10**9),
        ("500M", 500 * 1024**2),
        ("500MB", 500 * 10**6),
        ("1.5K", 1536),
        (".5K", 512),
        ("1.K", 1024),
        ("0.1", 1),
        ("1T", 1024**4),
        ("1P", 1024**5),
        ("9223372036854775807", LARGEST),
    ],
)
def test_sizes(given_size: str | float, bytes_: int) -> None:
    assert parse_size(given_size) == bytes_
    assert type(parse_size(given_size)) is int


@pytest.mark.parametrize(
    "bad",
    [
        *["", " ", "G", "2X", "2 G B", "-1", "-2G", "+2G", "1e9", "2GG", "2iB", "1,5G", "1 000", "٣G", "nan", "inf"],
        *[-1, -0.5, float("nan"), float("inf"), True, False, None, [], b"2G", Decimal(2), 1 + 2j, 2**63, "8192P"],
    ],
)
def test_bad_sizes_are_named(bad: Any) -> None:
    with pytest.raises(SizeError) as caught:
        parse_size(bad)
    assert repr(bad) in str(caught.value)
    assert isinstance(caught.value, UserError)
    assert "bytes" in str(caught.value) or "largest" in str(caught.value)


@pytest.mark.parametrize(
    ("given_duration", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.25, 0.25),
        ("90", 90.0),
        ("1.5", 1.5),
        ("90s", 90.0),
        ("90 S", 90.0),
        ("500ms", 0.5),
        ("10m", 600.0),
        ("10 min", 600.0),
        ("1h30m", 5400.0),
        (" 1h 30m ", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("1d 2h 3min 4s 5ms", 93784.005),
    ],
)
def test_durations(given_duration: str | float, seconds: float) -> None:
    assert parse_duration(given_duration) == seconds
    assert type(parse_duration(given_duration)) is float


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "h",
        "-1",
        "30m 1h",
        "1h 1h",
        "1h 30",
        "1y",
        "1:30",
        "1e3",
        "9" * 400,
        -1,
        float("nan"),
        float("inf"),
        True,
        None,
    ],
)
def test_bad_durations_are_named(bad: Any) -> None:
    with pytest.raises(SizeError) as caught:
        parse_duration(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024, "0.999 MiB"),
        (256 * 1024**2, "256 MiB"),
        (LARGEST, "8192 PiB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.035, "35 ms"), (1.25, "1.2 s"), (42, "42 s"), (59.97, "1m"), (200, "3m 20s"), (90_000, "1d 1h")],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=LARGEST - LARGEST // 100))
def test_formatted_sizes_are_sizes(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= Fraction(size, 180)


@given(st.floats(min_value=0, max_value=1e9))
def test_formatted_durations_are_durations(seconds: float) -> None:
    assert abs(parse_duration(format_duration(seconds)) - seconds) <= max(0.0006, seconds * 0.06)


@given(st.text())
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except SizeError:
        return
    assert 0 <= size <= LARGEST
