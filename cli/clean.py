"""`orch clean`: delete a run, or what nothing needs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from orch.cli.common import find_run, find_store, say
from orch.cli.parser import STORE, LogLevel, RunId, Store, application, command, one_of
from orch.cli.usage import UsageError
from orch.errors import LogDamaged, NoSuchRun, RunBusy
from orch.hints import store_option
from orch.sizes import format_size
from orch.state.graph import IllegalTransition
from orch.store.file import FileStore
from orch.store.layout import lock_file, log_dir, run_dir
from orch.store.runs import check_run_id

app = application()

STATES = ("succeeded", "failed", "cancelled", "stopped", "interrupted")
"""Of runs that nobody leads. What is damaged may still be wanted, and is deleted by its name only."""


@command(
    app,
    "clean",
    "[OPTIONS] [RUN]  |  orch clean --garbage [OPTIONS] [RUN]  |  orch clean --cache [OPTIONS]"
    "  |  orch clean --older-than TIME [OPTIONS]",
)
def clean(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    garbage: Annotated[
        bool, typer.Option("--garbage", help="keep runs; delete files, code and leftovers that none needs")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="drop what the call cache keeps of runs that were deleted")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help="all runs in which nothing has happened for so long, as 30d"),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state", metavar="STATE", help="of these, only those in it; may be repeated", parser=one_of(STATES)
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> int:
    """Delete a run (default: the newest) with all its files; or, with --garbage, only what no event names."""
    found = find_store(store)
    if state and (older_than is None or cache):
        raise UsageError("orch clean: --state means something with --older-than only")
    if older_than is not None and not cache:
        return _old(found, run, older_than, state or [], yes=yes, garbage=garbage)
    if garbage:
        return _garbage(found, run)
    if cache:
        return _drop_calls(found, run, older_than, yes=yes)
    if run is not None and not os.path.lexists(found.local_path(run_dir(check_run_id(run)))):
        run = find_run(found, run)  # which says so
    run = run or find_run(found, None)
    if not yes and not _agreed(run, found):
        say("nothing was deleted")
        return 0
    link = found.local_path(run_dir(run))
    if link.is_symlink():
        target = os.readlink(link)
        link.unlink()
        say(f"removed the link {link}; what it leads to is left as it is: {target}")
        return 0
    kept = delete_run(found, run)
    say(
        f"deleted run {run}"
        + (f", but for what the call cache needs (calls: {kept}): orch clean --cache drops that" if kept else "")
    )
    return 0


def _drop_calls(store: FileStore, run: str | None, older_than: str | None, *, yes: bool) -> int:
    from orch.cli.cached import drop_calls

    if run is not None:
        raise UsageError("orch clean --cache takes no run: it looks at all that were deleted")
    return drop_calls(store, older_than, yes=yes)


def _old(store: FileStore, run: str | None, age: str, states: list[str], *, yes: bool, garbage: bool) -> int:
    from orch.cli.expire import expire

    if run is not None or garbage:
        raise UsageError("orch clean --older-than takes no run, and no --garbage: it looks at all runs")
    return expire(store, age, states, yes=yes)


def _agreed(run: str, store: FileStore) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"orch clean deletes run {run} of {store.root} for good: confirm with --yes")
    sys.stderr.write(f"delete run {run} of {store.root} with all its files? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def delete_run(store: FileStore, run: str) -> int:
    """Delete a run that nobody leads; what it still has running is ended before. Raises `RunBusy`.

    The run vanishes at once, by a rename; a crash later leaves a directory that `--garbage` removes. What the call
    cache needs of it stays; how many calls that are. Scratch directories that were kept go along.
    """
    from orch.bus.lock import RunLock
    from orch.cli.cached import strip_run

    directory = store.local_path(run_dir(run))
    if not directory.exists():
        return 0
    _end_what_runs(store, run)
    lock = RunLock(store.local_path(lock_file(run)))
    lock.acquire()
    try:
        _remove_scratch(store, run)
        kept = strip_run(store, run)
        if kept is None:
            store.delete_tree(run_dir(run))
    finally:
        lock.release()
    for request in store.local_path("requests").glob(f"{run}.*.json"):
        if request.name.count(".") == run.count(".") + 2:
            request.unlink(missing_ok=True)
    return kept.calls if kept else 0


def _remove_scratch(store: FileStore, run: str) -> None:
    """What `--clean-scratch` has kept. Before the log goes, which alone knows where that is."""
    from orch.agent.kept import remove_kept

    for path in remove_kept(str(store.root), run, store.local_path(log_dir(run))):
        say(f"a scratch directory that was kept of run {run} is left, on another host or not of this store: {path}")


def _end_what_runs(store: FileStore, run: str) -> None:
    """A leader that died may have left live attempts: cancel them. A log that cannot be read cannot tell."""
    from orch.cli.summary import leader_alive
    from orch.history import fold_quickly

    directory = store.local_path(log_dir(run))
    if leader_alive(directory):
        raise RunBusy(f"run {run} has a live leader; end it first: orch cancel {run}{store_option(store)}")
    try:
        state = fold_quickly(directory)
    except (LogDamaged, IllegalTransition) as error:
        say(f"orch: warning: {error}; if something of this run still runs, it is not ended")
        return
    copied = state.created is not None and state.created.run != run  # what lives is the other's
    if not state.live or state.outcome or copied:
        return
    from orch.cli.control import cancel_quietly

    try:
        cancel_quietly(store, run)
    except NoSuchRun:
        return


def _garbage(store: FileStore, run: str | None) -> int:
    from orch.cli.garbage import collect

    only = None if run is None else find_run(store, run)
    report = collect(store, only)
    for note in report.notes:
        say(note)
    say(f"freed {format_size(report.size)}: {report.count} files")
    return 0
