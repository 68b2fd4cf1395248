"""Ways in which bytes go wrong: on disks, in copies, in editors. Each takes bytes and gives other bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""Takes a source of chance, the bytes of a file, and those of another one; may give the same bytes again."""


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    """Somewhere in the data: lines, blocks of some power of two, or anything."""
    kind = rng.randrange(3)
    if kind == 0:
        starts = [0, *(k + 1 for k, byte in enumerate(data) if byte == 10)]
        first = rng.randrange(len(starts))
        last = min(len(starts) - 1, first + rng.choice((1, 1, 1, 2, 3)))
        return starts[first], starts[last] if last > first else len(data)
    if kind == 1:
        size = 1 << rng.randrange(4, 10)
        start = rng.randrange(len(data) // size + 1) * size
        return start, min(len(data), start + size)
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randrange(1, 200))


def flip(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """One bit, or a few."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def change(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """Bytes into others, those that mean something among them."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 16))):
        out[rng.randrange(len(out))] = rng.choice(b'\n\0{}",:0123456789abcdef\xff')
    return bytes(out)


def delete(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """A range is gone."""
    start, end = _range(rng, data)
    return data[:start] + data[end:]


def insert(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """A range of noise, or of line ends."""
    at = rng.randrange(len(data) + 1)
    more = rng.choice((rng.randbytes(rng.randrange(1, 40)), b"\n", b"\n\n", b"\0" * 16, b'{"seq":'))
    return data[:at] + more + data[at:]


def double(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """A range is there twice: one after the other, or somewhere else."""
    start, end = _range(rng, data)
    at = rng.choice((end, rng.randrange(len(data) + 1)))
    return data[:at] + data[start:end] + data[at:]


def swap(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """Two ranges have changed places."""
    (a, b), (c, d) = sorted((_range(rng, data), _range(rng, data)))
    c = max(b, c)
    d = max(c, d)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def cut(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """The end is gone."""
    return data[: rng.choice((rng.randrange(len(data) + 1), _range(rng, data)[0]))]


def zero(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """A range was never written; perhaps up to the end, or behind it."""
    start, end = _range(rng, data)
    end = rng.choice((end, end, len(data) + 64))
    return data[:start] + bytes(end - start) + data[end:]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A range has become one of another file: the same place of it, or any other."""
    start, end = _range(rng, data)
    source = rng.choice((start, _range(rng, other)[0]))
    return data[:start] + other[source : source + end - start] + data[end:]


def join(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one file, and the end of another."""
    return data[: _range(rng, data)[0]] + other[_range(rng, other)[0] :]


ALONE: tuple[Mutation, ...] = (flip, change, delete, insert, double, swap, cut, zero)
WITH_OTHERS: tuple[Mutation, ...] = (splice, join)


def mutated(rng: random.Random, data: bytes, other: bytes, kinds: tuple[Mutation, ...]) -> bytes:
    """One mutation, seldom several."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(kinds)(rng, data, other)
    return data
