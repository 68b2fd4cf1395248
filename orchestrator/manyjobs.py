"""The jobs of a large plan: a million of them must not be objects all at once.

They come from the planner in portions, and stay as they came, but compressed: records that are alike become a tenth.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from orch.attempt import NewJob

_DECODER = msgspec.msgpack.Decoder(list[NewJob])
_LEVEL = 1
"""Of zlib's: 2 µs a job, and hardly larger than with more."""


class ManyJobs(Sequence[NewJob]):
    """Read from the first one to the last; each look makes them anew."""

    def __init__(self) -> None:
        self._portions: list[bytes] = []
        self._count = 0

    def add(self, portion: bytes) -> None:
        """The next ones: a list of jobs in msgpack."""
        self._portions.append(zlib.compress(portion, _LEVEL))
        self._count += len(_DECODER.decode(portion))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NewJob]:
        for portion in self._portions:
            yield from _DECODER.decode(zlib.decompress(portion))

    @overload
    def __getitem__(self, index: int) -> NewJob: ...

    @overload
    def __getitem__(self, index: slice) -> list[NewJob]: ...

    def __getitem__(self, index: int | slice) -> NewJob | list[NewJob]:
        """Reads all of them: nobody should do so often."""
        return list(self)[index]
