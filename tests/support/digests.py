"""Digests of values, computed in another process whose hashes differ from ours; and things that values are made of."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

TESTS = Path(__file__).parent.parent
_LENGTH = struct.Struct("!Q")


class Elsewhere:
    """A process that computes digests, with its own order of sets."""

    def __init__(self, seed: int) -> None:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(TESTS)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.digests"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def digest(self, value: Any) -> str:
        """What `orch.work.canonical.digest` says there of a copy of the value."""
        data = pickle.dumps(value)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_LENGTH.pack(len(data)) + data)
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0


def main() -> None:
    """Answer until there are no questions."""
    from orch.work.canonical import digest

    while header := sys.stdin.buffer.read(_LENGTH.size):
        value = pickle.loads(sys.stdin.buffer.read(_LENGTH.unpack(header)[0]))
        sys.stdout.write(f"{digest(value)}\n")
        sys.stdout.flush()


# Things -----------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Flag(enum.Flag):
    A = 1
    B = 2


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None

    @functools.cached_property
    def sum(self) -> Any:
        """Computed once."""
        return [self.x, self.y]


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: Any


class Plain:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a


class Told:
    """Decides itself what is kept of it."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept
        self.cache = object()

    def __getstate__(self) -> Any:
        return (self.kept,)

    def __setstate__(self, state: Any) -> None:
        (self.kept,) = state


class Words(list[Any]):
    """A list of its own kind."""


class Members(set[Any]):
    """A set of its own kind."""


class Table(dict[Any, Any]):
    """A dict of its own kind."""


class Node:
    """A part of a tree that knows what it hangs on."""

    def __init__(self, *below: Self) -> None:
        self.above: Any = None
        self.below = list(below)
        for each in below:
            each.above = self


class Meta(type):
    """A kind of classes."""


class Special(metaclass=Meta):
    """A class of another kind."""


def function(x: int, *rest: int, y: int = 2, **more: int) -> int:
    """A function to be called."""
    return x + y + sum(rest) + sum(more.values())


class Sheet(np.ndarray[Any, Any]):
    """An array of its own kind."""


ORDERED = collections.OrderedDict

if __name__ == "__main__":
    main()
