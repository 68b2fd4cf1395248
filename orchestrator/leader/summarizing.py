"""The summary of a run, kept beside its log by the one who leads it (`orch.summaries`)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from orch import summaries
from orch.bus.log import Log
from orch.state.model import State
from orch.state.status import JobStatus, job_status
from orch.summary import first_jobs, run_state, summarize

LONG = 20_000
"""Events. A log that has fewer is folded in less time than anybody notices, so only the end of the run is told."""

OFTEN = 1.0
"""Seconds between two summaries of a run that goes on, at least."""

SELDOM = 5.0
"""Seconds between two looks at whether the log is long by now."""

MOST_JOBS = 50
"""Jobs that a summary shows."""

MOST_NOTES = 4
"""Annotations of a job that it shows."""


class Summarizer:
    """Writes the summary of one run. Where that cannot be done, nothing is said: whoever reads folds the log."""

    def __init__(self, log: Log, state: State) -> None:
        self._log = log
        self._state = state
        self._due = False
        self._said = 0

    def committed(self) -> None:
        """All that the state holds is in the log, and nothing else: now, a summary is true."""
        if self._due:
            self._write()

    async def keep(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """For ever: have one written when one is due. After the last commit for a while, that is done here."""
        while True:
            long = self._state.seq >= LONG
            await sleep(OFTEN if long else SELDOM)
            if not long or self._state.seq == self._said:
                continue
            if self._state.seq == self._log.last_seq:
                self._write()
            else:
                self._due = True

    def last(self) -> None:
        """At the end, if the log was closed in order."""
        if self._state.closed and self._state.seq == self._log.last_seq:
            self._write()

    def _write(self) -> None:
        self._due = False
        self._said = self._state.seq
        with contextlib.suppress(OSError):
            place = summaries.place_of(self._log.directory, self._log.epoch)
            summaries.write(self._log.directory, summary_of(self._state, place))


def summary_of(state: State, place: summaries.Place) -> summaries.Kept:
    """What is kept of a state that the log has at `place`."""
    jobs = [_shown(job_status(state, row)) for row in first_jobs(state, MOST_JOBS)] if state.seq >= LONG else []
    return summaries.Kept(place, summarize(state, alive=None), run_state(state, alive=False), jobs)


def _shown(status: JobStatus) -> JobStatus:
    """With no more notes than are shown, and a mark that there are more."""
    notes = dict(list(status.annotations.items())[:MOST_NOTES])
    return msgspec.structs.replace(status, annotations=notes)
