"""The runs of a store: their names, and which is the newest."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import msgspec

from orch.bus.files import REAL
from orch.bus.segment import LONGEST_FIRST_LINE, epochs, opened_file, segment_name, trouble
from orch.errors import LogTrouble, NoSuchRun, OrchError, StoreError, UserError
from orch.store.file import FileStore
from orch.store.layout import log_dir

LONGEST = 100
"""Characters of a run id, at most."""

_LINE = 64 * 1024
"""Bytes of a first line, at most."""
_UNKNOWN = "0"
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


_FIRST = segment_name(1)


class _FirstLine(msgspec.Struct):
    time: str


_FIRST_LINE = msgspec.json.Decoder(_FirstLine)


def new_run_id(at: float | None = None) -> str:
    """`YYYYMMDD-HHMMSS-xxxx` in UTC; xxxx is the fraction of the second, to base 36, so that ids sort by time.

    `at`: seconds since 1970, now by default.
    """
    moment = time.time() if at is None else at
    whole = int(moment)
    fraction = int((moment - whole) * 36**4)
    suffix = "".join(_DIGITS[fraction // 36**power % 36] for power in (3, 2, 1, 0))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(whole))}-{suffix}"


def check_run_id(text: str) -> str:
    """`text`, if it can be the id of a run. Raises `UserError`."""
    if len(text) > LONGEST:
        raise UserError(f"the run id {text[:20]!r}… has {len(text)} characters: {LONGEST} is the most")
    if not _ALLOWED.fullmatch(text):
        raise UserError(
            f"{text!r} cannot be a run id: use letters, digits, '.', '_' and '-', with a letter or digit first"
        )
    return text


def list_runs(store: FileStore) -> list[str]:
    """Ids of the runs that have begun, the newest first."""
    try:
        names = [path.name for path in store.local_path("runs").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"could not list the runs of {store.root}: {error.strerror}") from error
    begun = [(since, name) for name in names if _ALLOWED.fullmatch(name) and (since := _created(store, name))]
    return [name for _, name in sorted(begun, reverse=True)]


def newest_run(store: FileStore) -> str:
    """Id of the run that began last. Raises `NoSuchRun` if there is none."""
    runs = list_runs(store)
    if not runs:
        raise NoSuchRun(f"the store {store.root} has no runs")
    return runs[0]


def _created(store: FileStore, run: str) -> str:
    """When the run began (ISO 8601, UTC), by its first event; empty if it has none.

    Something that is less than any time if that cannot be read: such a run is listed behind the others.
    """
    soon = _quickly(f"{store.root}/{log_dir(run)}/{_FIRST}")
    if soon:
        return soon
    directory, unknown = store.local_path(log_dir(run)), ""
    try:
        for epoch in epochs(directory, REAL):
            try:
                return _FIRST_LINE.decode(_first_line(directory / segment_name(epoch))).time
            except OrchError:
                unknown = _UNKNOWN
            except (ValueError, RecursionError):  # a claim that was never made good; or damage, where it is long
                if os.stat(directory / segment_name(epoch)).st_size > LONGEST_FIRST_LINE:
                    unknown = _UNKNOWN
    except LogTrouble as error:
        return "" if isinstance(error.__cause__, NotADirectoryError) else _UNKNOWN
    return unknown


def _quickly(path: str) -> str:
    """The time in the first line of a segment, where all is as it mostly is; else empty, and others find out why."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        line, newline, _ = os.read(handle, LONGEST_FIRST_LINE).partition(b"\n")
        return _FIRST_LINE.decode(line).time if newline else ""
    except (OSError, ValueError, RecursionError):
        return ""
    finally:
        os.close(handle)


def _first_line(path: Path) -> bytes:
    with trouble("read", path), opened_file(path, REAL) as handle:
        return REAL.read(handle, 0, _LINE).partition(b"\n")[0]
