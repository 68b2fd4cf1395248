"""Scratch directories that were kept, when their run is deleted.

The log says where they are, in annotations of its attempts, where a job can say what it likes. So nothing is removed
but what stands where agents of this store put things aside, under the name of the attempt that says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from orch.agent.paths import host_name
from orch.agent.scratch import remove_stubborn
from orch.store.layout import safe_name
from orch.work.spares import KEPT, NOTE
from orch.work.surroundings import scratch_name


class _Note(msgspec.Struct):
    """What is looked at of an event."""

    job: int = 0
    attempt: int = 0
    name: str = ""
    value: object = None


def remove_kept(store: str, run: str, log: Path) -> list[str]:
    """Remove what was kept of a run, whose log is in that directory; paths of what may be left, here or elsewhere."""
    return [path for path in sorted(set(_named(run, log))) if not _remove(path, store)]


def _named(run: str, log: Path) -> Iterator[str]:
    """What the log says was kept of the run, and not of one that it is a copy of. Also if some lines are damaged."""
    note = f'"{NOTE}"'.encode()
    for segment in sorted(log.glob("*.events.jsonl")):
        with segment.open("rb") as lines:
            yield from filter(None, (_path(line, run) for line in lines if note in line))


def _path(line: bytes, run: str) -> str:
    try:
        said = msgspec.json.decode(line, type=_Note)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    if said.name != NOTE or not isinstance(said.value, str) or not os.path.isabs(said.value):
        return ""
    place, name = os.path.split(said.value)
    expected = re.escape(scratch_name(f"{run}.{said.job}.{said.attempt}")) + r"(\.\d+)?"  # see `spares.keep`
    return said.value if os.path.basename(place) == KEPT and re.fullmatch(expected, name) else ""


def _remove(path: str, store: str) -> bool:
    """Remove a directory, if it is here and this store's; False if it may be left."""
    runtime = os.path.dirname(os.path.dirname(path))
    host = os.path.basename(os.path.dirname(runtime))
    if not os.path.lexists(path):
        return host == safe_name(host_name())
    digest = hashlib.sha256(os.fsencode(os.path.realpath(store))).hexdigest()  # as in `runtime_directory`
    if os.path.basename(runtime) != digest[:16] or not all(map(_is_own, (runtime, os.path.dirname(path)))):
        return False
    remove_stubborn(path)
    return not os.path.lexists(path)


def _is_own(directory: str) -> bool:
    """Is it this user's, and no link?"""
    found = os.lstat(directory)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
