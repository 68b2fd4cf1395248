"""`orch logs`: what attempts have written to stdout and stderr."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orch.bus import events as ev
from orch.bus.reader import read
from orch.cli.common import find_job, find_run, find_store, say
from orch.cli.outputs import STREAMS, Output, blob_of, output_at, outputs
from orch.cli.parser import STORE, LogLevel, Store, application, command, natural
from orch.cli.render import clock_time
from orch.cli.usage import UsageError
from orch.errors import NoSuchJob
from orch.hints import store_option
from orch.history import fold_quickly
from orch.sizes import format_size
from orch.state.law import LIVE, JobState
from orch.state.model import Job, State
from orch.store.file import FileStore
from orch.store.layout import batch_dir, log_dir, safe_name

if TYPE_CHECKING:
    from orch.agent.protocol import Answer

app = application()


@command(app, "logs", "[OPTIONS] [RUN] JOB  |  orch logs --all --to DIR [--gzip] [RUN]")
def logs(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUN] JOB", hidden=True)] = None,
    *,
    locator: Store = STORE,
    _level: LogLevel = "warning",
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", parser=natural, metavar="N", help="of attempt N (default: the latest)"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="of all attempts of all jobs, into files")] = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="with --all: the directory, made if it is not there")
    ] = None,
    compress: Annotated[bool, typer.Option("--gzip", help="with --all: compressed")] = False,
) -> int:
    """What a job has written: its stdout to stdout, its stderr to stderr.

    JOB is a number, or a kind or name that only one job has. RUN defaults to the newest.
    """
    names = names or []
    store = find_store(locator)
    if every:
        if len(names) > 1 or attempt:
            raise UsageError("orch logs --all: takes a run at most, and no job or attempt")
        return _all(store, names, to, compress=compress)
    if to or compress:
        raise UsageError("orch logs: --to and --gzip go with --all")
    if not names or len(names) > 2:
        raise UsageError("orch logs: name a job, or a run and a job, or give --all; see: orch logs --help")
    run = find_run(store, names[0] if len(names) == 2 else None)
    return _one(store, run, names[-1], attempt)


def _one(store: FileStore, run: str, job: str, attempt: int | None) -> int:
    directory = store.local_path(log_dir(run))
    state = fold_quickly(directory)
    row = find_job(state, job, store_option(store))
    so_far = _so_far(store, run, row, attempt)
    if so_far is None and row.state is JobState.RUNNING:  # it may have ended since
        state = fold_quickly(directory)
        row = find_job(state, str(row.id))
    found = _chosen(directory, row, attempt) if so_far is None else None
    if so_far is not None:
        for stream, data in zip(STREAMS, (so_far.out, so_far.err), strict=True):
            heading = f"job {row.label}, attempt {row.attempt} (running): {stream} so far, {format_size(len(data))}"
            _print(heading, stream, data)
    elif found is None:
        _nothing(directory, store_option(store), state, row, attempt)
    else:
        _note_live(row, found)
        for stream in STREAMS:
            _print_kept(store, row, found, stream)
    _print_logged(directory, row, attempt or (found.attempt if found else row.attempt))
    return 0


def _so_far(store: FileStore, run: str, row: Job, attempt: int | None) -> Answer | None:
    """What an attempt that runs on this host, or in a batch system, has written so far."""
    if row.state is not JobState.RUNNING or attempt not in (None, row.attempt):
        return None
    from orch.agent.observe import ask
    from orch.agent.paths import host_name

    here = ask(str(store.root), row.key) if row.host == host_name() else None
    return here or _in_the_store(store, run, row)


def _in_the_store(store: FileStore, run: str, row: Job) -> Answer | None:
    """The same, where a worker writes it into files of the store."""
    if not os.path.isdir(store.local_path(batch_dir(run))):
        return None
    from orch.adapters.batch.captured import written
    from orch.agent.protocol import Answer

    found = written(str(store.root), run, row.key)
    return Answer(0, out=found[0], err=found[1]) if found is not None else None


def _chosen(directory: Path, row: Job, attempt: int | None) -> Output | None:
    if attempt is None:
        return output_at(directory, row.output_seq) if row.output_seq else None
    return next((o for o in outputs(read(directory)) if o.job == row.id and o.attempt == attempt), None)


def _nothing(directory: Path, where: str, state: State, row: Job, attempt: int | None) -> None:
    if attempt is not None and attempt > row.attempt:
        had = f"{row.attempt} attempt{'' if row.attempt == 1 else 's'}"
        raise NoSuchJob(f"job {row.label} has had {had}; there is no attempt {attempt}")
    if row.state in LIVE:
        say(f"job {row.label}, attempt {row.attempt}, is {row.state}: its output is shown once it has ended")
        return
    from orch.cli.attempts import history
    from orch.state.status import explain

    reused = history(directory, row).reused
    if reused is not None:
        earlier = f"job {reused.source} of run {reused.run}"
        see = f"orch logs {reused.run} {reused.source}{where}"
        say(f"job {row.label} has not run: it has taken the value of {earlier}, an equal earlier call; see: {see}")
    else:
        say(f"job {row.label} has not run yet: it is {row.state} ({explain(state, row) or 'nothing to say'})")


def _print_logged(directory: Path, row: Job, attempt: int) -> None:
    """What the attempt has said by `context().log` and `log_stream`, also while it runs."""
    said = [
        event
        for event in read(directory, from_seq=row.added_seq)
        if isinstance(event, ev.Logged) and event.job == row.id and event.attempt == attempt
    ]
    if said:
        say(f"== job {row.label}, attempt {attempt}: log, {len(said)} line{'s' if len(said) > 1 else ''}")
    for event in said:
        say(f"{clock_time(event.time)} {event.stream or event.level}: {event.text}")


def _note_live(row: Job, shown: Output) -> None:
    if row.state in LIVE and shown.attempt < row.attempt:
        say(f"attempt {row.attempt} of job {row.label} is {row.state}; this is attempt {shown.attempt}")


def _print_kept(store: FileStore, row: Job, found: Output, stream: str) -> None:
    blob: ev.Blob = getattr(found, stream)
    cut = f", {format_size(blob.cut)} more were cut out" if blob.cut else ""
    heading = f"job {row.label}, attempt {found.attempt} ({found.how}): {stream}, {format_size(blob.size)}{cut}"
    _print(heading, stream, blob_of(store, blob))


def _print(heading: str, stream: str, data: bytes) -> None:
    """A line on stderr, and the bytes as they are to the stream that they were written to."""
    say(f"== {heading}")
    out = getattr(sys, stream)
    out.flush()
    binary = getattr(out, "buffer", None)
    if binary is None:
        out.write(data.decode("utf-8", "replace"))
    else:
        binary.write(data)
    if data and not data.endswith(b"\n") and (stream == "stderr" or out.isatty()):
        out.write("\n")
    out.flush()


def _all(store: FileStore, runs: Sequence[str], to: str | None, *, compress: bool) -> int:
    """One file for each stream that is not empty: JOB-NAME.ATTEMPT.stdout, as in the store."""
    if not to:
        raise UsageError("orch logs --all: say where to: --to DIR")
    run = find_run(store, runs[0] if runs else None)
    target = Path(to)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--to {target}: is not a directory") from None
    directory = store.local_path(log_dir(run))
    names: dict[int, str] = {}
    count = 0
    for event in read(directory):
        if isinstance(event, ev.Added):
            names[event.job] = safe_name(event.name or event.kind)
        for found in outputs([event]):
            for stream in STREAMS:
                count += _write(store, target, f"{found.job}-{names[found.job]}.{found.attempt}.{stream}",
                                getattr(found, stream), compress=compress)  # fmt: skip
    say(f"{count} files in {target}")
    return 0


def _write(store: FileStore, target: Path, name: str, blob: ev.Blob, *, compress: bool) -> int:
    """Write one file, whole or not at all. Gives how many that were: one, or none if there is nothing to write."""
    if not blob.size:
        return 0
    data = blob_of(store, blob)
    path = target / (f"{name}.gz" if compress else name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(gzip.compress(data, mtime=0) if compress else data)
        temporary.replace(path)
    except BaseException:  # Ctrl-C, too: no half file is left behind
        temporary.unlink(missing_ok=True)
        raise
    return 1
