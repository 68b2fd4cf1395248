"""The jobs that failed in a run, as records: what the report tells people, for programs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from orch.bus import events as ev
from orch.leader.report import last_lines, output
from orch.state.model import State
from orch.state.status import JobStatus, job_status
from orch.store.file import FileStore


class Failure(msgspec.Struct, frozen=True):
    """A job that failed, and the last lines of what its latest attempt wrote."""

    job: JobStatus
    stdout: list[str]
    stderr: list[str]


def failures(store: FileStore, state: State, fetch: Callable[[int], ev.Event], lines: int = 50) -> list[Failure]:
    """Every job that failed, in the order in which they did."""
    found = []
    for job in state.failed:
        row = state.jobs[job]
        out, err = output(store, row, fetch)
        found.append(Failure(job_status(state, row), last_lines(out, lines), last_lines(err, lines)))
    return found
