"""What is known of one call that was made, and of the calls of a run that was deleted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from orch.bus.events import Call, JobId, Kept, StoredFile

FORMAT = 1
"""Version of `Remains`."""

UNSTORED = (
    "jobs of code that is not stored (--no-deploy, --in-process) cannot be cached: nobody can tell whether it has "
    "changed; say version= of a job whose code you vouch for"
)
"""A warning, of which one is enough for all jobs."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The job `job` of `run` made `call`; `time` is when its body had succeeded, in UTC.

    `values`    the final value is the first; the others stand in it
    `files`     what the jobs of these values wrote
    `mentions`  directories of other files that are named in the values
    """

    run: str
    job: JobId
    kind: str
    call: Call
    values: list[Kept]
    files: list[StoredFile] = []
    mentions: list[str] = []
    time: str = ""

    def uses(self) -> Iterator[str]:
        """Paths that must be there as long as the entry is: of large values, and of directories of files."""
        yield from (kept.value.file for kept in self.values if kept.value.file)
        yield from (place_of(file.path) for file in self.files)
        yield from self.mentions


class Remains(msgspec.Struct, frozen=True, omit_defaults=True):
    """`runs/RUN/calls.json`: what is left of a run that was deleted. `identity` is that of its log."""

    format: int
    run: str
    identity: str
    calls: list[Entry]


_PLACE = re.compile(rb"runs/[A-Za-z0-9][A-Za-z0-9._-]{0,99}/files/[0-9]{3,12}/[0-9]{1,12}\.[0-9]{1,9}/[0-9]{1,9}(?=/)")
"""Each stored file has a numbered directory of its own (`orch.store.layout`): its name need not be understood."""


def place_of(path: str) -> str:
    """The directory that the stored file at `path` has for itself; the path itself if it has none."""
    found = _PLACE.match(path.encode())
    return found[0].decode() if found else path


def mentioned(pickled: bytes) -> set[str]:
    """Directories of stored files that are named in a pickled value.

    A value can name files that its job did not write but was given. Nothing is unpickled to see them: that would run
    code. In a pickle, texts stand as they are, so a path is found by its form. One that is compressed is not seen.
    """
    return {found.decode() for found in _PLACE.findall(pickled)}


def in_order(values: list[Kept]) -> list[Kept]:
    """The same values in the order in which they are met from the first on: whoever put them together."""
    order, places = [0], {0: 0}
    for k in order:  # which grows meanwhile
        for ref in values[k].refs:
            if ref not in places:
                places[ref] = len(order)
                order.append(ref)
    return [msgspec.structs.replace(values[k], refs=[places[ref] for ref in values[k].refs]) for k in order]


def other_mentions(pickles: Iterable[bytes], files: Iterable[StoredFile]) -> list[str]:
    """Those named in these values that are none of `files`, in order."""
    found: set[str] = set().union(*map(mentioned, pickles))
    return sorted(found - {place_of(file.path) for file in files})
