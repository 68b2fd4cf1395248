"""Wishes on their way to a leader: small files in the store, so that they arrive from any host.

A wish is written atomically, found by the leader within half a second, becomes a `requested` event, and is deleted
once that event is durable. One that was written before the run's latest leader began is void: whoever carries a run
on does not want what was wished for its past.
"""

from __future__ import annotations

import os
import uuid  # noqa: TID251 - a wish is made by a command, never by a leader
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from orch.bus.events import JobId
from orch.store.layout import request_file
from orch.store.private import open_private

WISHES = ("stop", "cancel", "pause", "resume")
SET = "set"
"""The wish to change settings."""


LARGEST = 64 * 1024
"""Bytes. A wish has some hundred."""


class Request(msgspec.Struct, frozen=True):
    """`what`: one of `WISHES`, or `SET`. `epoch`: of the leader that it is meant for (a later one ignores it).

    `settings`: those to be changed, for `orch.leader.settings.make_limits`: a file that anybody may have written.
    """

    run: str
    what: str
    epoch: int
    by: str
    job: JobId = 0
    file: str = ""
    settings: dict[str, Any] = {}


def make_request(
    root: Path, run: str, what: str, epoch: int, by: str, settings: Mapping[str, Any] | None = None
) -> Path:
    """Write a wish into the store at `root`; gives the file, which disappears when the wish has been recorded."""
    request = Request(run=run, what=what, epoch=epoch, by=by, settings=dict(settings or {}))
    path = root / request_file(run, uuid.uuid4().hex)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "xb", opener=open_private) as file:
        file.write(msgspec.json.encode(request))
    temporary.rename(path)
    return path


def read_requests(root: Path) -> list[Request]:
    """All wishes in the store, oldest first; each names its file. What cannot be read is left out."""
    found = []
    try:
        with os.scandir(root / "requests") as entries:
            files = [entry for entry in entries if entry.name.endswith(".json") and _is_plain(entry)]
            files.sort(key=lambda entry: entry.stat().st_mtime_ns)
    except OSError:
        return []
    for entry in files:
        try:
            request = msgspec.json.decode(Path(entry.path).read_bytes(), type=Request)
        except (OSError, ValueError, RecursionError):  # the last for lists in lists in lists …
            continue
        found.append(msgspec.structs.replace(request, file=entry.path))
    return found


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """A small regular file: anything else (a FIFO, say) could hold up whoever reads it."""
    return entry.is_file(follow_symlinks=False) and entry.stat().st_size <= LARGEST


def drop_request(request: Request) -> None:
    """The wish has been recorded (or is void)."""
    Path(request.file).unlink(missing_ok=True)
