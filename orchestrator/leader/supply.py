"""Making attempts: a job's body, and the values that it needs, put together for the adapter.

Bodies and values are not part of the state; the state knows the event that has them. What is wanted soon is mostly
what has just been written, so a bounded cache stands before the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from orch.attempt import Attempt, Value
from orch.bus import events as ev
from orch.state.model import Job, State

CACHE_BYTES = 64 * 1024 * 1024

EACH = 400
"""Bytes that one takes beside its data."""

SURVEY_CORES = 0.1
"""What a survey is given at the most: it only looks at values."""

NOTHING = ev.Blob(data=b"\x80\x05N.", size=4)
"""The pickled None: the value of a job without a body that stands for none."""

_EARLIER = 1 << 24
"""Values that stand in the value of an earlier call get negative numbers, this many for each event."""


class Supply:
    """Reads bodies and values by the number of their event. `fetch` reads an event from the log."""

    def __init__(self, fetch: Callable[[int], ev.Event], limit: int = CACHE_BYTES) -> None:
        self._fetch = fetch
        self._limit = limit
        self._blobs: OrderedDict[int, ev.Blob] = OrderedDict()
        self._tables: dict[int, list[ev.Kept]] = {}  # what stands in the values of earlier calls
        self._bytes = 0

    def note(self, event: ev.Event) -> None:
        """Remember what a new event carries."""
        if isinstance(event, ev.Added):
            self._put(event.seq, event.body)
        elif isinstance(event, ev.Succeeded | ev.Serving):
            self._put(event.seq, event.value)

    def blob(self, seq: int) -> ev.Blob:
        """The body or value that event `seq` carries."""
        found = self._blobs.get(seq)
        if found is not None:
            self._blobs.move_to_end(seq)
            return found
        if not seq:
            return NOTHING
        event = self._fetch(seq)
        if isinstance(event, ev.Added):
            blob = event.body
        elif isinstance(event, ev.Reused):
            blob = event.values[0].value
            self._tables[seq] = event.values
        else:
            blob = getattr(event, "value", ev.EMPTY)
        self._put(seq, blob)
        return blob

    def _put(self, seq: int, blob: ev.Blob) -> None:
        self._blobs[seq] = blob
        self._bytes += len(blob.data) + EACH
        while self._bytes > self._limit and len(self._blobs) > 1:
            first, oldest = self._blobs.popitem(last=False)
            self._tables.pop(first, None)
            self._bytes -= len(oldest.data) + EACH

    def values(self, state: State, jobs: list[ev.JobId]) -> dict[ev.JobId, Value]:
        """The values of done jobs, and of all jobs that stand in those values."""
        found: dict[ev.JobId, Value] = {}
        todo = list(jobs)
        while todo:
            job = todo.pop()
            if job in found:
                continue
            row = state.row(job)
            blob = self.blob(row.value_seq)
            if row.value_seq in self._tables:
                refs = self._earlier(row.value_seq, found)
            else:
                refs = list(row.refs)
                todo.extend(refs)
            found[job] = Value(blob=blob, refs=refs, label=row.label)
        return found

    def _earlier(self, seq: int, found: dict[ev.JobId, Value]) -> list[ev.JobId]:
        """Enter what stands in the value of an earlier call; what its own references are."""
        table = self._tables[seq]
        for position, kept in enumerate(table[1:], 1):
            found[-(seq * _EARLIER + position)] = Value(
                blob=kept.value, refs=[-(seq * _EARLIER + ref) for ref in kept.refs], label="an earlier call"
            )
        return [-(seq * _EARLIER + ref) for ref in table[0].refs]

    def kept(self, state: State, job: ev.JobId) -> tuple[list[ev.Kept], list[ev.StoredFile]]:
        """A known value with all that stands in it, as later calls can have it; and the files that these jobs wrote."""
        values = self.values(state, [job])
        order = [job, *(other for other in values if other != job)]
        positions = {other: position for position, other in enumerate(order)}
        files: dict[str, ev.StoredFile] = {}
        for seq in {state.row(other).value_seq for other in order if other > 0}:
            for file in getattr(self._fetch(seq), "files", ()) if seq else ():
                files[file.path] = file
        kept = [ev.Kept(value=values[other].blob, refs=[positions[r] for r in values[other].refs]) for other in order]
        return kept, list(files.values())

    def attempt(self, state: State, row: Job, cwd: str, max_log: int) -> Attempt:
        """The live attempt of a job, ready to be handed over."""
        assert state.created is not None
        after = state.jobs[row.after] if row.after else None
        known = [need for need in row.needs if need != row.after]
        return Attempt(
            key=row.key,
            run=state.created.run,
            job=row.id,
            attempt=row.attempt,
            epoch=state.epoch,
            kind=row.kind,
            name=row.name,
            form=row.form,
            body=self.blob(row.added_seq),
            resources=_for_survey(row.resources) if row.survey else row.resources,
            asked=row.resources if row.survey else None,
            needs=list(row.needs),
            values=self.values(state, known) if known else {},
            bundle=state.bundle,
            cwd=cwd,
            max_log=max_log,
            after=after.key if after is not None else "",
            survey=row.survey,
            surveys=row.surveyed,
            wanted=self._wanted(row),
            cache=row.cache,
            version=self._version(row),
            serves=row.serves,
            priority=row.priority,
            local=row.local,
        )

    def _wanted(self, row: Job) -> ev.Blob:
        """What a survey has to compute. Rare, and so not in the cache."""
        event = self._fetch(row.added_seq) if row.survey else None
        return event.wanted if isinstance(event, ev.Added) else ev.EMPTY

    def _version(self, row: Job) -> str:
        event = self._fetch(row.added_seq) if row.survey and row.cache else None
        return event.version if isinstance(event, ev.Added) else ""


def _for_survey(wanted: ev.Resources) -> ev.Resources:
    return ev.Resources(cores=min(SURVEY_CORES, wanted.cores))
