"""A whole state as bytes, and back: so that a run of a million jobs need not be folded anew to be carried on. Pure.

An image is only good for the very code that has made it: whoever keeps it has to see to that (`orch.leader.snapshots`).
Rows that are packed already go into it as they are.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec

from orch.state.model import Job, State
from orch.state.queue import Queue
from orch.state.table import PAGE, Page, Table, pack


class NoImage(ValueError):
    """These bytes are no image of a state."""


def image(state: State) -> list[bytes]:
    """The state as pieces of bytes, one after the other. The pieces do not change when the state does."""
    rows = state.jobs.hot_rows()
    pages = [*state.jobs.pages(), *(pack(rows[at : at + PAGE], small=False) for at in range(0, len(rows), PAGE))]
    rest = _encoder.encode(msgspec.structs.replace(state, jobs=Table(Job)))
    sizes = array("q", [len(rest), *itertools.chain.from_iterable((len(page.jobs), len(page.data)) for page in pages)])
    head = [len(sizes).to_bytes(8, "little"), sizes.tobytes(), rest]
    return head + [piece for page in pages for piece in (page.jobs.tobytes(), page.data)]


def from_image(data: memoryview) -> State:
    """The state that was made an image of. Raises NoImage."""
    try:
        pieces = _pieces(data)
        state = _decoder.decode(next(pieces))
        for jobs in pieces:
            state.jobs.put(Page(_numbers(jobs), bytes(next(pieces))))
    except (ValueError, StopIteration, IndexError, OverflowError) as error:  # msgspec's own are ValueErrors
        raise NoImage(str(error)) from error
    return state


def _pieces(data: memoryview) -> Iterator[memoryview]:
    count = int.from_bytes(data[:8], "little")
    at = 8 + 8 * count
    sizes = _numbers(data[8:at])
    if not count or at + sizes[0] + sum(8 * n for n in sizes[1::2]) + sum(sizes[2::2]) != len(data):
        raise NoImage("it is not as long as it says")
    for size in (
        sizes[0],
        *itertools.chain.from_iterable((8 * n, m) for n, m in zip(sizes[1::2], sizes[2::2], strict=True)),
    ):
        yield data[at : at + size]
        at += size


def _numbers(data: memoryview | bytes) -> array[int]:
    found = array("q")
    found.frombytes(data)
    return found


def _to_plain(value: Any) -> Any:
    """What msgspec does not know."""
    if isinstance(value, Queue):
        return value.lines()
    raise NotImplementedError(type(value))  # msgspec turns it into its own error


def _from_plain(kind: type, value: Any) -> Any:
    if kind is Table:
        return Table(Job)
    return Queue.of(value)


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)
_decoder = msgspec.msgpack.Decoder(State, dec_hook=_from_plain)
