"""`orch why`: why a job failed, does not run yet, or ran again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from orch.bus import events as ev
from orch.bus.reader import read
from orch.cli.attempts import History, attempt_lines, history, spared
from orch.cli.common import find_job, find_run, find_store, harmless
from orch.cli.outputs import blob_of, output_at, where
from orch.cli.parser import STORE, LogLevel, Store, application, command
from orch.cli.render import date_time, one_line
from orch.cli.summary import leader_alive, wants
from orch.cli.usage import UsageError
from orch.hints import store_option
from orch.history import fold_quickly
from orch.sizes import format_duration, format_size
from orch.state.law import ACTIVE, LIVE, JobState
from orch.state.model import WORKFLOW, Job, State
from orch.state.status import explain
from orch.store.file import FileStore
from orch.store.layout import log_dir
from orch.summary import run_state

LAST_LINES = 50
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
    """Why a job failed, does not run yet, or ran again. RUN defaults to the newest."""
    if len(names) > 2:
        raise UsageError("orch why: name a job, or a run and a job")
    store = find_store(locator)
    run = find_run(store, names[0] if len(names) == 2 else None)
    state = fold_quickly(store.local_path(log_dir(run)))
    row = find_job(state, names[-1], store_option(store))
    print("\n".join(map(harmless, _explanation(store, run, state, row))))
    return 0


def _explanation(store: FileStore, run: str, state: State, row: Job) -> Iterator[str]:
    """A headline, and then a line for each thing that is known."""
    found = history(store.local_path(log_dir(run)), row)
    yield f"job {row.label} of run {run} is {row.state}"
    reason = _reason(state, row, found)
    if reason:
        yield f"  why      {reason}"
    if row.state in ACTIVE:
        yield from _run(store, run, state)
        yield from _not_yet(store, run, state, row)
    elif row.state is JobState.SUCCEEDED:
        yield from _chain(state, row)
    elif row.state is JobState.SKIPPED and row.because in state.jobs:
        yield f"           see: orch why {run} {row.because}{store_option(store)}"
    elif row.state is JobState.DROPPED:
        yield from _dropped(store, run, state, row)
    if row.attempt and (row.reason or row.state not in (JobState.WAITING, JobState.SKIPPED)):
        yield from _attempt(row)  # else it was a link of a chain, and never began
    if len(found.tried) > 1 or found.rewound:
        yield from attempt_lines(found, state.jobs)
    yield from _cached(store, run, row)
    for name, value in (row.annotations or {}).items():
        yield f"  noted    {one_line(f'{name} = {value!r}', LONGEST_NOTE)}"
    if row.output_seq:
        yield from _output(store, run, row)


def _reason(state: State, row: Job, found: History) -> str:
    """The headline's reason, in one line."""
    if found.reused is not None:
        return f"its value is that of an equal earlier call: run {found.reused.run}, job {found.reused.source}"
    if row.state is JobState.CANCELLED and state.abandoned:
        return f"the run was given up: {state.abandoned}"
    return explain(state, row)


def _run(store: FileStore, run: str, state: State) -> Iterator[str]:
    """The run itself may be why."""
    how = run_state(state, alive=leader_alive(store.local_path(log_dir(run))))
    if how in ("stopped", "interrupted"):
        yield f"  run      {how}; carry it on: orch replay {run} --restart{store_option(store)}"
    elif how == "paused":
        yield f"  run      paused; let it go on: orch resume {run}{store_option(store)}"


def _not_yet(store: FileStore, run: str, state: State, row: Job) -> Iterator[str]:
    """What a job lacks that has not begun."""
    if row.state is JobState.WAITING:
        yield from _chain(state, row)
    elif row.state is not JobState.RUNNING:
        yield f"  wants    {wants(row)}"
        limit = _limit(state, row) if row.state is JobState.READY else ""
        said = _asked(store, run, row)
        yield from (f"  place    {text}" for text in (limit, said) if text)


def _limit(state: State, row: Job) -> str:
    """The limit of the run that keeps the job from being handed over, if one does."""
    from orch.leader.settings import from_log

    settings = from_log({**(state.created.settings if state.created else {}), **state.adjusted})
    live = sum(state.lanes.values())  # links of chains that wait for the one before them take no place
    if 0 < settings.max_jobs <= live:
        attempts = "1 attempt is" if live == 1 else f"{live} attempts are"
        return f"{attempts} live, and --max-jobs is {settings.max_jobs}"
    limits = {
        "local": (settings.max_local_jobs, "--max-local-jobs"),
        "service": (settings.max_services, "--max-services"),
        "preemptible service": (settings.max_preemptible_services, "--max-preemptible-services"),
    }
    most, option = limits.get(row.lane, (0, ""))
    return (
        f"{state.lanes[row.lane]} of its sort are live, and {option} is {most}"
        if 0 < most <= state.lanes[row.lane]
        else ""
    )


def _asked(store: FileStore, run: str, row: Job) -> str:
    """What the batch system says of an attempt that was handed over, as the leader wrote it down; or the agent."""
    if row.state not in (JobState.SUBMITTING, JobState.QUEUED):
        return ""
    from orch.worker.spool import Spool

    said = Spool(str(store.root), run).pending().get(row.key)
    if said:
        return f"{row.adapter or 'the batch system'} says: {said}"
    from orch.agent.observe import ask

    answer = ask(str(store.root), row.key)
    return answer.text if answer is not None else ""


def _chain(state: State, row: Job) -> Iterator[str]:
    """What it waits for, and what that waits for, up to the first that does not wait."""
    from orch.blockers import LONGEST, Blockers

    told = list(Blockers(state).chain(row))
    for blocker in told:
        why = explain(state, blocker.row)
        head = f"{blocker.row.label} is {blocker.row.state} ({blocker.what} is needed)"
        yield f"           → {head}" + (f": {why}" if why else "")
    if len(told) == LONGEST:
        yield "           → …"


def _dropped(store: FileStore, run: str, state: State, row: Job) -> Iterator[str]:
    """The checkpoint that has run again, and why."""
    above = set(_makers(state, row))
    for event in read(store.local_path(log_dir(run)), from_seq=row.added_seq):
        if isinstance(event, ev.Rewound) and event.job in above:  # it dropped all that there was then
            checkpoint, failed = state.jobs[event.job], state.jobs[event.failed].label
            when = date_time(event.time)
            yield f"  dropped  the checkpoint {checkpoint.label} ran again at {when}, since {failed} failed"
            yield f"           see: orch why {run} {checkpoint.id}{store_option(store)}"
            return


def _makers(state: State, row: Job) -> Iterator[int]:
    """The job that made it, the one that made that, and so on."""
    while row.by != WORKFLOW:
        yield row.by
        row = state.jobs[row.by]


def _attempt(row: Job) -> Iterator[str]:
    yield f"  attempt  {row.attempt}" + (f", {row.charged} of {row.retries + 1} tries used up" if row.charged else "")
    if row.state not in LIVE:  # how it ended; of a live one the row still has the end of the one before
        yield from _ending(row)
    if row.host or row.adapter:
        parts = [row.host, row.adapter, f"process {row.pid}" if row.pid else "", row.external_id]
        yield f"  host     {', '.join(filter(None, parts))}"
    if row.usage is not None and row.reason and row.state not in LIVE:
        memory = f", {format_size(row.usage.memory)} of memory" if row.usage.memory else ""
        yield f"  used     {format_duration(row.usage.wall)}{memory}"
    for state, time in row.times.items():
        if state in (JobState.RUNNING, row.state):
            yield f"  {state.value:<8} {date_time(time)}"


def _ending(row: Job) -> Iterator[str]:
    if row.reason and row.state is not JobState.FAILED:  # that is why, and has been said
        yield f"  reason   {row.reason}" + (f": {row.message}" if row.message else "")
    elif row.reason:
        yield from (f"  retry    not again: {rule}" for rule in [spared(row)] if rule)
    if row.signal:
        yield f"  exit     killed by signal {row.signal}"
    elif row.exit_code is not None:
        yield f"  exit     {row.exit_code}"


def _cached(store: FileStore, run: str, row: Job) -> Iterator[str]:
    """Why its value was taken from an earlier call, or was not."""
    if not row.cache:
        return
    from orch.calls.explain import explain_call

    yield from (f"  cache    {line}" for line in explain_call(store, run, row.id))


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
    if found.stdout.size or found.stderr.cut or len(lines) > LAST_LINES:
        yield f"  the rest: orch logs {run} {row.id}{store_option(store)}"
