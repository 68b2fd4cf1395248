"""A run's log for other tools: each event with all its fields, and a database of events, jobs and attempts.

Both are written while the log is read. Events are never held; what is held is a name for each job, and for the database
the folded state, as a leader has it.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from orch.bus import events as ev
from orch.bus.codec import Unknown, type_name
from orch.bus.reader import read_batches
from orch.errors import StoreError

Record = dict[str, Any]

_TEXTS = ("stdout", "stderr")


class Flat:
    """Events as plain data. Remembers what jobs are called."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, str]] = {}

    def __call__(self, event: ev.Event) -> Record:
        """Every field, defaults too; with a job's number its kind and name. Captured output is text."""
        head: Record = {"seq": event.seq, "time": event.time, "epoch": event.epoch, "group": event.group}
        if isinstance(event, Unknown):
            return head | {"type": event.kind} | _without_guards(event.raw)
        if isinstance(event, ev.Added):
            self._names[event.job] = (event.kind, event.name)
        head["type"] = type_name(event)
        job = getattr(event, "job", None)
        if job is not None:
            kind, name = self._names.get(job, ("", ""))
            head |= {"job": job, "job_kind": kind, "job_name": name}
        fields = type(event).__struct_fields__
        return head | {field: _plain(getattr(event, field), field) for field in fields if field not in _ENVELOPE}


_ENVELOPE = frozenset({"seq", "time", "epoch", "group", "v", "job"})


def _without_guards(raw: bytes) -> Record:
    fields: Record = msgspec.json.decode(raw)
    return {name: value for name, value in fields.items() if name not in ("crc", "end")}


def _plain(value: Any, field: str) -> Any:
    if isinstance(value, ev.Blob):
        return None if value == ev.EMPTY else _blob(value, field)
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        return [_plain(one, field) for one in value]
    return value


def _blob(blob: ev.Blob, field: str) -> Record:
    """What was captured is text; pickles are base64. Nothing is unpickled: that would run code."""
    where = {"size": blob.size, "file": blob.file, "digest": blob.digest}
    if field in _TEXTS:
        return {"text": blob.data.decode("utf-8", "replace"), **where, "cut": blob.cut}
    return {"pickle": base64.b64encode(blob.data).decode("ascii"), **where}


def write_json(directory: Path, out: TextIO, progress: Callable[[int], None] = lambda _: None) -> None:
    """The events of the log in `directory`, one JSON object a line. Raises LogDamaged, LogTrouble."""
    flat = Flat()
    encode = msgspec.json.Encoder().encode
    for batch in read_batches(directory):
        out.writelines([encode(flat(event)).decode() + "\n" for event in batch])
        progress(batch[-1].seq)


@contextlib.contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place, durably, if the block succeeds. Raises StoreError."""
    path = Path(os.path.realpath(path))  # a link stays one; /dev/stdout is what it leads to
    if os.path.lexists(path) and not path.is_file():
        raise StoreError(f"cannot write {path}: it is not a file")
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
