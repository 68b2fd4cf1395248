"""`orch why`: why a job failed, or does not run yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from orch.cli.common import find_job, find_run, find_store, harmless
from orch.cli.outputs import blob_of, output_at, where
from orch.cli.parser import STORE, LogLevel, Store, application, command
from orch.cli.render import date_time, one_line
from orch.cli.summary import leader_alive, run_state, wants
from orch.cli.usage import UsageError
from orch.hints import store_option
from orch.history import fold_quickly
from orch.sizes import format_duration, format_size
from orch.state.law import ACTIVE, JobState
from orch.state.model import Job, State
from orch.state.status import explain
from orch.store.file import FileStore
from orch.store.layout import log_dir

LAST_LINES = 50
LONGEST_CHAIN = 20
LONGEST_NOTE = 500
"""Characters of an annotation, at most."""


app = application()


@command(app, "why", "[OPTIONS] [RUN] JOB")
def why(
    names: Annotated[list[str], typer.Argument(metavar="[RUN] JOB", hidden=True)],
    *,
    locator: Store = STORE,
    _level: LogLevel = "warning",
) -> int:
    """Why a job failed, or does not run yet. RUN defaults to the newest."""
    if len(names) > 2:
        raise UsageError("orch why: name a job, or a run and a job")
    store = find_store(locator)
    run = find_run(store, names[0] if len(names) == 2 else None)
    state = fold_quickly(store.local_path(log_dir(run)))
    row = find_job(state, names[-1], store_option(store))
    print("\n".join(map(harmless, _explanation(store, run, state, row))))
    return 0


def _explanation(store: FileStore, run: str, state: State, row: Job) -> Iterator[str]:
    yield f"job {row.label} of run {run} is {row.state}"
    reason = explain(state, row)
    if reason:
        yield f"  why      {reason}"
    if row.state in ACTIVE:
        yield from _run(store, run, state)
    if row.state in (JobState.WAITING, JobState.SUCCEEDED):
        yield from _chain(state, row)
    elif row.state is JobState.SKIPPED and row.because in state.jobs:
        yield f"           see: orch why {run} {row.because}{store_option(store)}"
    elif row.state in (JobState.READY, JobState.SUBMITTING, JobState.QUEUED):
        yield f"  wants    {wants(row)}"
    if row.attempt:
        yield from _attempt(row)
    for name, value in (row.annotations or {}).items():
        yield f"  noted    {one_line(f'{name} = {value!r}', LONGEST_NOTE)}"
    if row.output_seq:
        yield from _output(store, run, row)


def _run(store: FileStore, run: str, state: State) -> Iterator[str]:
    """The run itself may be why."""
    how = run_state(state, leader_alive(store.local_path(log_dir(run))))
    if how in ("stopped", "interrupted"):
        yield f"  run      {how}; carry it on: orch replay {run} --restart{store_option(store)}"
    elif how == "paused":
        yield f"  run      paused; let it go on: orch resume {run}{store_option(store)}"


def _chain(state: State, row: Job) -> Iterator[str]:
    """What it waits for, and what that waits for, up to the first that does not wait."""
    seen = {row.id}
    for _ in range(LONGEST_CHAIN):
        blocker = _blocker(state, row)
        if blocker is None or blocker.id in seen:
            return
        seen.add(blocker.id)
        yield f"           → {blocker.label} is {blocker.state}" + _because(state, blocker)
        row = blocker
    yield "           → …"


def _because(state: State, row: Job) -> str:
    text = explain(state, row)
    return f": {text}" if text else ""


def _blocker(state: State, row: Job) -> Job | None:
    """The first job that `row` waits for; one that cannot become done before others."""
    if row.state is JobState.WAITING:
        names = row.needs
    elif row.state is JobState.SUCCEEDED:
        names = row.refs
    else:
        return None
    rows = [state.jobs[job] for job in names if state.jobs[job].state is not JobState.DONE]
    return next((row for row in rows if row.doomed or row.state is JobState.FAILED), rows[0] if rows else None)


def _attempt(row: Job) -> Iterator[str]:
    yield f"  attempt  {row.attempt}" + (f", {row.charged} of {row.retries + 1} tries used up" if row.charged else "")
    if row.reason and row.state is not JobState.FAILED:  # that is why, and has been said
        yield f"  reason   {row.reason}" + (f": {row.message}" if row.message else "")
    if row.signal:
        yield f"  exit     killed by signal {row.signal}"
    elif row.exit_code is not None:
        yield f"  exit     {row.exit_code}"
    if row.host or row.adapter:
        parts = [row.host, row.adapter, f"process {row.pid}" if row.pid else "", row.external_id]
        yield f"  host     {', '.join(filter(None, parts))}"
    if row.usage is not None and row.reason:
        memory = f", {format_size(row.usage.memory)} of memory" if row.usage.memory else ""
        yield f"  used     {format_duration(row.usage.wall)}{memory}"
    for state, time in row.times.items():
        if state in (JobState.RUNNING, row.state):
            yield f"  {state.value:<9}{date_time(time)}"


def _output(store: FileStore, run: str, row: Job) -> Iterator[str]:
    found = output_at(store.local_path(log_dir(run)), row.output_seq)
    if found is None:
        return
    lines = blob_of(store, found.stderr).decode("utf-8", "replace").splitlines()
    if lines:
        head = f"the last {LAST_LINES} of {len(lines)} lines" if len(lines) > LAST_LINES else "all"
        yield f"  stderr   {head}, attempt {found.attempt} ({where(store, found.stderr)}):"
        yield from (f"    {line}" for line in lines[-LAST_LINES:])
    else:
        yield "  stderr   empty"
    yield f"  the rest: orch logs {run} {row.id}{store_option(store)}"
