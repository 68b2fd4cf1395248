"""Captured output: which event has it, and its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from orch.bus import events as ev
from orch.bus.codec import type_name
from orch.bus.reader import read
from orch.errors import NoSuchFile
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore

STREAMS = ("stdout", "stderr")


END = ev.Succeeded | ev.Retrying | ev.Failed | ev.Cancelled
"""How attempts end."""


class Output(msgspec.Struct, frozen=True):
    """What an attempt that has ended has written. `how`: the type of the event that says so."""

    job: int
    attempt: int
    how: str
    stdout: ev.Blob
    stderr: ev.Blob


def output_of(event: ev.Event) -> Output | None:
    """What the event says of an attempt's output, if it is the end of one."""
    if not isinstance(event, END):
        return None
    return Output(job=event.job, attempt=event.attempt, how=type_name(event), stdout=event.stdout, stderr=event.stderr)


def outputs(events: Iterable[ev.Event]) -> Iterator[Output]:
    """Of all attempts that have ended."""
    for event in events:
        found = output_of(event)
        if found is not None and found.attempt:
            yield found


def output_at(directory: Path, seq: int) -> Output | None:
    """What event `seq` of the log says."""
    for event in read(directory, from_seq=seq, to_seq=seq):
        return output_of(event)
    return None


def blob_of(store: FileStore, blob: ev.Blob) -> bytes:
    """The bytes, or a line that says why there are none: logs of attempts are not synced, and may be lost."""
    try:
        return blob_bytes(store, blob)
    except NoSuchFile as error:
        return f"(lost: {error})\n".encode()


def where(store: FileStore, blob: ev.Blob) -> str:
    """Where the whole of it is, for people."""
    return str(store.local_path(blob.file)) if blob.file else "in the log"
