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

MOST_JOBS = 10
LAST_LINES = 15


def failure_report(store: FileStore, state: State, fetch: Fetch) -> str:
    """The message of `RunFailed`."""
    assert state.created is not None
    run = state.created.run
    failed = [state.jobs[job] for job in state.failed]
    skipped = state.counts[JobState.SKIPPED]
    head = f"run {run} failed: {_count(len(failed), 'job')} failed"
    if skipped:
        head += f", {_count(skipped, 'job')} skipped because they need what failed"
    parts = [head, *(_job(store, run, row, fetch) for row in failed[:MOST_JOBS])]
    if len(failed) > MOST_JOBS:
        parts.append(f"… and {len(failed) - MOST_JOBS} more: orch status {run} --state failed{store_option(store)}")
    parts.append(f"mend the cause and carry on: orch replay {run} --restart{store_option(store)}")
    return "\n\n".join(parts)


def _job(store: FileStore, run: str, row: Job, fetch: Fetch) -> str:
    why = f"{row.reason}: {row.message}" if row.message else row.reason
    lines = [f"job {row.id} {row.name or row.kind}, attempt {row.attempt}: {why}"]
    end = last_lines(output(store, row, fetch)[1])
    lines += [f"    {line}" for line in end]
    lines.append(f"  the whole of its output: orch logs {run} {row.id}{store_option(store)}")
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
