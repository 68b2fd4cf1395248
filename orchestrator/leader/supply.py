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


class Supply:
    """Reads bodies and values by the number of their event. `fetch` reads an event from the log."""

    def __init__(self, fetch: Callable[[int], ev.Event], limit: int = CACHE_BYTES) -> None:
        self._fetch = fetch
        self._limit = limit
        self._blobs: OrderedDict[int, ev.Blob] = OrderedDict()
        self._bytes = 0

    def note(self, event: ev.Event) -> None:
        """Remember what a new event carries."""
        if isinstance(event, ev.Added):
            self._put(event.seq, event.body)
        elif isinstance(event, ev.Succeeded):
            self._put(event.seq, event.value)

    def blob(self, seq: int) -> ev.Blob:
        """The body or value that event `seq` carries."""
        found = self._blobs.get(seq)
        if found is not None:
            self._blobs.move_to_end(seq)
            return found
        event = self._fetch(seq)
        blob = event.body if isinstance(event, ev.Added) else getattr(event, "value", ev.EMPTY)
        self._put(seq, blob)
        return blob

    def _put(self, seq: int, blob: ev.Blob) -> None:
        self._blobs[seq] = blob
        self._bytes += len(blob.data) + 200
        while self._bytes > self._limit and len(self._blobs) > 1:
            _, oldest = self._blobs.popitem(last=False)
            self._bytes -= len(oldest.data) + 200

    def values(self, state: State, jobs: list[ev.JobId]) -> dict[ev.JobId, Value]:
        """The values of done jobs, and of all jobs that stand in those values."""
        found: dict[ev.JobId, Value] = {}
        todo = list(jobs)
        while todo:
            job = todo.pop()
            if job in found:
                continue
            row = state.row(job)
            found[job] = Value(blob=self.blob(row.value_seq), refs=row.refs, label=row.label)
            todo.extend(row.refs)
        return found

    def attempt(self, state: State, row: Job, cwd: str, max_log: int) -> Attempt:
        """The live attempt of a job, ready to be handed over."""
        assert state.created is not None
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
            resources=row.resources,
            needs=row.needs,
            values=self.values(state, row.needs) if row.needs else {},
            bundle=state.bundle,
            cwd=cwd,
            max_log=max_log,
        )
