"""What an attempt has printed, from the files that its worker had it written to."""

from __future__ import annotations

import contextlib
import datetime as dt
import os

import msgspec

from orch.attempt import Attempt, Outcome
from orch.bus.events import EMPTY, INLINE_LIMIT, Blob, Usage
from orch.bus.identity import utc_now
from orch.store import layout
from orch.store.blobs import make_blob
from orch.store.file import FileStore
from orch.worker.spool import WORKER, Claim, Spool, Ticket


def head_and_tail(path: str, most: int) -> tuple[bytes, int]:
    """What a file holds, `most` bytes of it, and how many were left out in the middle. Nothing, if it is not there."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= most:
                return file.read(most), 0
            head = file.read(most // 2)
            file.seek(size - most // 2)
            tail = file.read(most // 2)
    except OSError:
        return b"", 0
    cut = size - len(head) - len(tail)
    return head + f"\n[orch: {cut} bytes left out here]\n".encode() + tail, cut


def written(store: str, run: str, key: str, most: int = INLINE_LIMIT) -> tuple[bytes, bytes] | None:
    """What an attempt that runs has written so far to stdout and stderr; None where no worker has it. For any host."""
    spool = Spool(store, run)
    for name in spool.submissions():
        with contextlib.suppress(OSError, ValueError):  # it is being cleared up
            keys = spool.header(name).keys
            ticket = Ticket(name, keys.index(key) + 1)
            claim = spool.claimed(ticket)
            if claim is not None and claim.by == WORKER:
                paths = [spool.path("output", f"{ticket}{ending}") for ending in (".out", ".err")]
                return head_and_tail(paths[0], most)[0], head_and_tail(paths[1], most)[0]
    return None


def captured(spool: Spool, ticket: Ticket, outcome: Outcome, attempt: Attempt, claim: Claim) -> Outcome:
    """`outcome` with output, times and host, for an attempt whose worker is gone."""
    store = FileStore(spool.store)
    blobs = [_blob(store, spool, ticket, attempt, *each) for each in ((".out", "stdout"), (".err", "stderr"))]
    ended = utc_now()
    return msgspec.structs.replace(
        outcome,
        stdout=blobs[0],
        stderr=blobs[1],
        host=outcome.host or claim.host,
        ended=ended,
        usage=Usage(wall=_seconds(claim.since, ended)),
    )


def _blob(store: FileStore, spool: Spool, ticket: Ticket, attempt: Attempt, ending: str, stream: str) -> Blob:
    data, cut = head_and_tail(spool.path("output", f"{ticket}{ending}"), attempt.max_log)
    if not data:
        return EMPTY
    path = layout.output_file(attempt.run, attempt.job, attempt.name or attempt.kind, attempt.attempt, stream)
    return msgspec.structs.replace(make_blob(store, path, data, sync=False), cut=cut)


def _seconds(since: str, until: str) -> float:
    try:
        took = dt.datetime.fromisoformat(until) - dt.datetime.fromisoformat(since)
    except ValueError:
        return 0.0
    return max(0.0, took.total_seconds())
