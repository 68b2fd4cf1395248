"""`runs/RUN/summary.json`: what the leader says of a run in a few words, so that nobody has to fold a long log for it.

It counts for nothing by itself. It names the place in the log up to which it was made: segment, bytes, and the crc of
the line that ends there. Where the log's last segment ends at just that place, the summary is what folding the log
would give. Where the log has gone on, it is what folding gave a moment ago: good enough while the run is led, since the
next one comes soon, and worth nothing once it is not. In any other case, and where it is missing, torn or edited, the
log is folded.

It is not synced: what a power cut makes of it does not fit the log, or its own checksum.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from orch.bus.scan import is_closing
from orch.bus.segment import segment_name
from orch.state.status import JobStatus
from orch.store.private import open_private
from orch.summary import Summary

NAME = "summary.json"

_CRC = 11
"""Bytes at the end of a line from its crc on: eight digits, quote, brace and newline."""

_LINE = 1024
"""Bytes in which a closing line fits."""


class Place(msgspec.Struct, frozen=True):
    """The end of the log when the summary was made. `size` in bytes, `crc` of the last line."""

    epoch: int
    size: int
    crc: str


class Kept(msgspec.Struct, frozen=True):
    """What is in the file. `left`: the run's state once nobody leads it. `jobs`: some, where the log is long."""

    place: Place
    summary: Summary
    left: str
    jobs: list[JobStatus] = []


class _Sealed(msgspec.Struct):
    crc: int
    kept: msgspec.Raw


_ENCODER = msgspec.json.Encoder()
_SEALED = msgspec.json.Decoder(_Sealed)
_KEPT = msgspec.json.Decoder(Kept)


def place_of(log: Path, epoch: int) -> Place:
    """Where the segment of `epoch` ends now. For its writer, when nothing is being written. Raises `OSError`."""
    with _opened(f"{log}/{segment_name(epoch)}") as handle:
        size = os.fstat(handle).st_size
        return Place(epoch, size, _crc(os.pread(handle, _CRC, size - _CRC)))


def write(log: Path, kept: Kept) -> None:
    """Put it beside the log, in the place of what is there. Raises `OSError`."""
    data = _ENCODER.encode(kept)
    path = f"{log.parent}/{NAME}"
    with open(f"{path}.new", "wb", opener=open_private) as file:
        file.write(_ENCODER.encode(_Sealed(zlib.crc32(data), msgspec.Raw(data))))
    os.replace(f"{path}.new", path)


def read(log: Path) -> tuple[Kept, bool] | None:
    """What is there, if it is true of this log; and whether it is true of all of it, or of what it was a moment ago."""
    try:
        with _opened(f"{log.parent}/{NAME}") as handle:
            sealed = _SEALED.decode(os.pread(handle, os.fstat(handle).st_size, 0))
        if zlib.crc32(sealed.kept) != sealed.crc:
            return None
        kept = _KEPT.decode(sealed.kept)
        reached = _reached(str(log), kept.place)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return None if reached is None else (kept, reached)


def _reached(log: str, place: Place) -> bool | None:
    """Does the log end there? None if it is another log, has another segment since, or was closed behind that."""
    with _opened(f"{log}/{segment_name(place.epoch)}") as handle:
        found = os.pread(handle, _CRC + 1, place.size - _CRC)
        if len(found) < _CRC or _crc(found) != place.crc:
            return None
        if len(found) > _CRC and _is_closed(handle):
            return None
    # Asked after reading, and of the whole directory: a network file system looks again for that only.
    return None if segment_name(place.epoch + 1) in os.listdir(log) else len(found) == _CRC


def _is_closed(handle: int) -> bool:
    end = os.pread(handle, _LINE, max(0, os.fstat(handle).st_size - _LINE))
    return is_closing(end[:-1].rpartition(b"\n")[2])


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield handle
    finally:
        os.close(handle)


def _crc(end: bytes) -> str:
    """The crc in the last bytes of a line; empty if these are not the end of one."""
    text = end[:8].decode("ascii", "replace")
    return text if end[8:_CRC] == b'"}\n' else ""
