"""A run and its jobs on the screen: `status`, and `replay` without `--restart`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from orch.cli.common import harmless
from orch.cli.render import date_time, one_line, table, terminal_width
from orch.cli.summary import counts_line
from orch.sizes import format_duration
from orch.state.law import LIVE, JobState
from orch.state.model import State
from orch.state.status import JobStatus, job_status, seconds_since
from orch.summary import Summary, first_jobs, summarize

MOST_JOBS = 50
LONGEST_NOTE = 40
"""Characters of an annotation, at most."""


def show(state: State, alive: bool | None, *, only: str = "", at: str = "", where: str = "") -> None:
    """Print the run and its jobs: those in the state `only`, else as many as one wants to see.

    `at`: said behind the run's state. `where`: the option that names the store, for a hint.
    """
    rows = [row for row in state.jobs.values() if row.state == only] if only else first_jobs(state, MOST_JOBS)
    jobs = [job_status(state, row) for row in rows]
    show_summary(summarize(state, alive=alive), jobs, all_of_them=bool(only), at=at, where=where)


def show_summary(
    summary: Summary, jobs: Sequence[JobStatus], *, all_of_them: bool = False, at: str = "", where: str = ""
) -> None:
    """Print the run and these of its jobs, and how many more there are unless they are `all_of_them`."""
    print(harmless(header(summary, at)))
    if jobs:
        print()
        print(jobs_table(jobs, summary.time))
    if len(jobs) < summary.jobs_total and not all_of_them:
        see = f"orch status {summary.run}{where} --state STATE, or --json for all"
        print(f"… and {summary.jobs_total - len(jobs)} more jobs: {see}")


def header(summary: Summary, at: str = "") -> str:
    """The lines above the jobs."""
    name = f" ({summary.name})" if summary.name else ""
    last = summary.time
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


def jobs_table(jobs: Iterable[JobStatus], now: str) -> str:
    """A line a job. `now`: the time of the last event."""
    head = ["JOB", "NAME", "STATE", "TRY", "EXIT", "TIME", "HOST", "WHY"]
    return table(head, [_line(job, now) for job in jobs], width=terminal_width(is_terminal=sys.stdout.isatty()))


def _line(job: JobStatus, now: str) -> list[str]:
    return [
        job.id,
        job.name,
        job.state,
        str(job.attempt or ""),
        exit_text(job),
        _time(job, now),
        job.host,
        "; ".join(filter(None, [job.why, notes(job.annotations)])),
    ]


def notes(found: dict[str, Any], most: int = 3) -> str:
    """What a job has noted of itself, as "records=12, rate=0.5"; `orch why` has all of it."""
    parts = [one_line(f"{name}={value}", LONGEST_NOTE) for name, value in itertools.islice(found.items(), most)]
    return ", ".join(parts) + (", …" if len(found) > most else "")


def exit_text(status: JobStatus) -> str:
    """How the latest attempt ended: a code or a signal. Nothing while the next one is live."""
    if status.state in LIVE:
        return ""
    if status.signal:
        return f"signal {status.signal}"
    return "" if status.exit_code is None else str(status.exit_code)


def _time(job: JobStatus, now: str) -> str:
    """How long it has run."""
    if job.state in LIVE:
        since = job.times.get(JobState.RUNNING) if job.state == JobState.RUNNING else None
        return format_duration(seconds_since(since, now)) if since else ""
    return format_duration(job.wall) if job.wall else ""
