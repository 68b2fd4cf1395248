"""The calls that a run has made, as its log tells: a fold, which knows nothing but that.

A call counts once its job and everything that its attempts made is done. Only then its value is final, and nothing
that the call was to bring about is left out when another job takes the value and does not run.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

import msgspec

from orch.bus import events as ev
from orch.calls.record import Entry

NONE: list[ev.JobId] = []
"""No jobs: shared, and never changed."""

NOTHING = ev.Blob(data=pickle.dumps(None, protocol=5), size=len(pickle.dumps(None, protocol=5)))
"""The value of a group that has none."""


class _Row:
    """A job. `done_seq`: the event that has its value (0: none yet); `made`: jobs that this attempt made."""

    __slots__ = ("alias", "call", "done_seq", "kind", "made", "needs", "refs", "reused", "time")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.needs: list[ev.JobId] | None = None  # of a group only: there its value is
        self.call: ev.Call | None = None
        self.clear()

    def clear(self) -> None:
        self.done_seq = 0
        self.refs = NONE
        self.made = NONE
        self.alias = False
        self.reused = False
        self.time = ""


class Ledger:
    """Takes all events of a log in order. `run` is the run's own name for itself."""

    def __init__(self) -> None:
        self.run = ""
        self._rows: dict[ev.JobId, _Row] = {}
        self._made: dict[tuple[ev.JobId, int], list[ev.JobId]] = {}

    def note(self, event: ev.Event) -> None:
        """Go on by one event."""
        match event:
            case ev.Added():
                row = self._rows[event.job] = _Row(event.kind)
                row.needs = event.needs if event.form == "group" else None
                self._made.setdefault((event.by, event.attempt), []).append(event.job)
            case ev.Succeeded():
                row = self._rows[event.job]
                row.done_seq, row.refs, row.alias, row.time = event.seq, event.refs, event.alias, event.time
                row.made = self._made.pop((event.job, event.attempt), NONE)
            case ev.Surveyed():
                self._rows[event.job].call = event.call
            case ev.Reused():
                row = self._rows[event.job]
                row.done_seq, row.reused = event.seq, True
            case ev.Rewound():
                self._rows[event.job].clear()
            case ev.Opened():  # what was added, and never counted, is forgotten
                self._made.clear()
            case ev.Created():
                self.run = event.run

    def made(self) -> list[ev.JobId]:
        """Jobs whose calls were made, in order."""
        over: dict[ev.JobId, bool] = {}
        for job in sorted(self._rows, reverse=True):  # what a job makes has higher numbers than itself
            row = self._rows[job]
            ended = row.done_seq > 0 or row.needs is not None  # a group is over when all around it is
            over[job] = ended and all(over[one] for one in row.made)
        return [job for job, row in sorted(self._rows.items()) if row.call and not row.reused and over[job]]

    def entry(self, job: ev.JobId, fetch: Callable[[int], ev.Event]) -> Entry:
        """The call of one of those jobs, but for its `mentions`. `fetch` reads an event of the log."""
        row = self._rows[job]
        assert row.call is not None
        found = _Values(self._rows, fetch)
        found.add(job)
        return Entry(self.run, job, row.kind, row.call, found.kept, found.files, time=row.time)


class _Values:
    """A value and all that stands in it, as one list, in which they refer to each other by position."""

    def __init__(self, rows: dict[ev.JobId, _Row], fetch: Callable[[int], ev.Event]) -> None:
        self.kept: list[ev.Kept] = []
        self.files: list[ev.StoredFile] = []
        self._rows = rows
        self._fetch = fetch
        self._places: dict[ev.JobId, int] = {}
        self._waiting: list[ev.JobId] = []

    def add(self, job: ev.JobId) -> None:
        """The value of a job, and all that stands in it."""
        self._place(job)
        while self._waiting:
            found = self._waiting.pop()
            row = self._rows[found]
            if not row.done_seq:  # a group that has no value of another
                continue
            event = self._fetch(row.done_seq)
            if isinstance(event, ev.Reused):
                self._take(self._places[found], event)
            elif isinstance(event, ev.Succeeded):
                refs = [self._place(ref) for ref in row.refs]
                self.kept[self._places[found]] = ev.Kept(event.value, refs)
                self.files += event.files

    def _place(self, job: ev.JobId) -> int:
        """Where the value of `job` stands, or will: it may be that of another job."""
        row = self._rows[job]
        while row.alias or row.needs:
            job = row.refs[0] if row.alias else (row.needs or NONE)[0]
            row = self._rows[job]
        if job not in self._places:
            self._places[job] = len(self.kept)
            self.kept.append(ev.Kept(NOTHING))
            self._waiting.append(job)
        return self._places[job]

    def _take(self, place: int, event: ev.Reused) -> None:
        """A value that was itself taken comes with its own list: the first has its place, the others follow here."""
        base = len(self.kept) - 1
        self.kept.extend(event.values[1:])
        for k, kept in enumerate(event.values):
            refs = [base + ref if ref else place for ref in kept.refs]
            self.kept[base + k if k else place] = msgspec.structs.replace(kept, refs=refs)
        self.files += event.files
