"""What is said of a run that failed: each job that failed, why, the end of its stderr, and how to see the rest."""

from __future__ import annotations

from collections.abc import Callable

from orch.bus import events as ev
from orch.errors import StoreError
from orch.hints import store_option
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore

Fetch = Callable[[int], ev.Event]

MOST_ENDS = 10
MOST_READ = 50
"""Failed jobs whose stderr is looked at: what is beyond them is only counted."""

MOST_NUMBERS = 20
LAST_LINES = 15


def failure_report(store: FileStore, state: State, fetch: Fetch) -> str:
    """The message of `RunFailed`."""
    assert state.created is not None
    run = state.created.run
    failed = [state.jobs[job] for job in state.failed]
    skipped = state.counts[JobState.SKIPPED]
    head = f"run {run} failed"
    if failed or not state.abandoned:
        head += f": {_count(len(failed), 'job')} failed"
    if skipped:
        head += f", {_count(skipped, 'job')} skipped because they need what failed"
    alike = _alike(store, failed, fetch)
    given_up = [f"it was given up: {state.abandoned}"] if state.abandoned else []
    parts = [head, *given_up, *(_jobs(store, run, rows, end) for rows, end in alike[:MOST_ENDS])]
    rest = len(failed) - sum(len(rows) for rows, _ in alike[:MOST_ENDS])
    if rest:
        parts.append(f"… and {rest} more: orch status {run} --state failed{store_option(store)}")
    parts.append(f"mend the cause and carry on: orch replay {run} --restart{store_option(store)}")
    return "\n\n".join(parts)


def without_head(report: str) -> str:
    """The report without its first paragraph, for where the run and its counts have just been named."""
    head, _, rest = report.partition("\n\n")
    return rest or head


def _alike(store: FileStore, failed: list[Job], fetch: Fetch) -> list[tuple[list[Job], list[str]]]:
    """Failed jobs that ended alike, with the end of their stderr: a mistake in one function is told once."""
    found: dict[tuple[str, ...], tuple[list[Job], list[str]]] = {}
    for row in failed[:MOST_READ]:
        end = last_lines(output(store, row, fetch)[1])
        found.setdefault((row.kind, row.reason, row.message, *end), ([], end))[0].append(row)
    return list(found.values())


def _jobs(store: FileStore, run: str, rows: list[Job], end: list[str]) -> str:
    """The first of jobs that ended alike, and the numbers of the others."""
    row, *others = rows
    why = f"{row.reason}: {row.message}" if row.message else row.reason
    lines = [f"job {row.id} {row.name or row.kind}, attempt {row.attempt}: {why}"]
    said = bool(end) and end[0].strip() == row.message
    lines += [f"    {line}" for line in end[said:]]
    lines.append(f"  the whole of its output: orch logs {run} {row.id}{store_option(store)}")
    if others:
        numbers = ", ".join(str(other.id) for other in others[:MOST_NUMBERS])
        more = ", …" if len(others) > MOST_NUMBERS else ""
        lines.append(f"  … and {_count(len(others), 'more job')} with the same end: {numbers}{more}")
    return "\n".join(lines)


def output(store: FileStore, row: Job, fetch: Fetch) -> tuple[str, str]:
    """Captured stdout and stderr of a job's latest attempt that has ended."""
    if not row.output_seq:
        return "", ""
    event = fetch(row.output_seq)
    return _text(store, getattr(event, "stdout", ev.EMPTY)), _text(store, getattr(event, "stderr", ev.EMPTY))


def _text(store: FileStore, blob: ev.Blob) -> str:
    try:
        return blob_bytes(store, blob).decode("utf-8", "replace")
    except StoreError as error:
        return f"({error})"


def last_lines(text: str, most: int = LAST_LINES) -> list[str]:
    """The last lines of a text."""
    return text.rstrip().splitlines()[-most:]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
