"""A run and its jobs on the screen: `status`, and `replay` without `--restart`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable

from orch.cli.common import harmless
from orch.cli.render import date_time, one_line, table, terminal_width
from orch.cli.summary import Summary, counts_line, summarize
from orch.sizes import format_duration
from orch.state.law import LIVE, JobState
from orch.state.model import Job, State
from orch.state.status import JobStatus, explain, job_status, seconds_since

MOST_JOBS = 50
LONGEST_NOTE = 40
"""Characters of an annotation, at most."""

_INTERESTING = (JobState.FAILED, JobState.RUNNING, JobState.QUEUED, JobState.SUBMITTING, JobState.READY)


def show(
    state: State, alive: bool | None, *, only: str = "", most: int = MOST_JOBS, at: str = "", where: str = ""
) -> None:
    """Print the run and up to `most` jobs (0: all); what failed or is at work comes first if not all fit.

    `where`: the option that names the store, for a hint.
    """
    summary = summarize(state, alive)
    print(harmless(header(summary, state, at)))
    rows = [row for row in state.jobs.values() if row.state is not JobState.ADDED and only in ("", row.state.value)]
    shown = rows if not most or len(rows) <= most else select(rows, most)
    if shown:
        print()
        print(jobs_table(state, shown))
    if len(shown) < len(rows):
        see = f"orch status {summary.run}{where} --state STATE, or --json for all"
        print(f"… and {len(rows) - len(shown)} more jobs: {see}")


def header(summary: Summary, state: State, at: str = "") -> str:
    """The lines above the jobs."""
    name = f" ({summary.name})" if summary.name else ""
    last = state.time
    ran = f", {format_duration(seconds_since(summary.started, last))}" if summary.started and last else ""
    lines = [
        f"run      {summary.run}{name}",
        f"state    {summary.state}{at}",
        f"jobs     {counts_line(summary)}",
        f"events   {summary.seq}, from {date_time(summary.started)} to {date_time(last)}{ran}",
        f"leader   {_leader(summary)}",
    ]
    if summary.source:
        lines.append(f"source   {summary.source}")
    if summary.tags:
        lines.append("tags     " + " ".join(f"{key}={value}" for key, value in summary.tags.items()))
    lines += [f"warning  {warning}" for warning in summary.warnings[:10]]
    return "\n".join(lines)


def _leader(summary: Summary) -> str:
    leader = summary.leader
    alive = {True: "alive", False: "gone", None: ""}[leader.alive]
    text = f"{leader.host}, process {leader.pid}, since {date_time(leader.since)}, epoch {leader.epoch}"
    return f"{text}, {alive}" if alive else text


def select(rows: list[Job], most: int) -> list[Job]:
    """The `most` rows that a person wants to see, in the order of their numbers."""

    def first(rows: Iterable[Job]) -> set[int]:
        return {row.id for row in itertools.islice(rows, most)}

    wanted: set[int] = set()
    for state in _INTERESTING:
        wanted |= first(row for row in rows if row.state is state)
        if len(wanted) >= most:
            break
    chosen = [row for row in rows if row.id in wanted][:most]
    for row in rows:
        if len(chosen) >= most:
            break
        if row.id not in wanted:
            chosen.append(row)
    return sorted(chosen, key=lambda row: row.id)


def jobs_table(state: State, rows: Iterable[Job]) -> str:
    """A line a job."""
    head = ["JOB", "NAME", "STATE", "TRY", "EXIT", "TIME", "HOST", "WHY"]
    lines = [_line(state, row) for row in rows]
    return table(head, lines, width=terminal_width(is_terminal=sys.stdout.isatty()))


def _line(state: State, row: Job) -> list[str]:
    status = job_status(state, row)
    return [
        status.id,
        status.name,
        status.state,
        str(status.attempt or ""),
        exit_text(status),
        _time(state, row, status),
        status.host,
        "; ".join(filter(None, [explain(state, row), notes(row)])),
    ]


def notes(row: Job, most: int = 3) -> str:
    """What the job has noted of itself, as "records=12, rate=0.5"; `orch why` has all of it."""
    found = row.annotations or {}
    parts = [one_line(f"{name}={value}", LONGEST_NOTE) for name, value in itertools.islice(found.items(), most)]
    return ", ".join(parts) + (", …" if len(found) > most else "")


def exit_text(status: JobStatus) -> str:
    """How the latest attempt ended: a code or a signal. Nothing while the next one is live."""
    if status.state in LIVE:
        return ""
    if status.signal:
        return f"signal {status.signal}"
    return "" if status.exit_code is None else str(status.exit_code)


def _time(state: State, row: Job, status: JobStatus) -> str:
    """How long it has run."""
    if row.state in LIVE:
        since = row.times.get(JobState.RUNNING) if row.state is JobState.RUNNING else None
        return format_duration(seconds_since(since, state.time)) if since else ""
    return format_duration(status.wall) if status.wall else ""
