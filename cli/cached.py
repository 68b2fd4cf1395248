"""What the call cache keeps of runs that were deleted: `orch clean RUN` leaves it, `orch clean --cache` drops it."""

from __future__ import annotations

import datetime as dt
import sys

from orch.calls.remains import Freed, drop, strip
from orch.calls.source import deleted_runs
from orch.cli.common import say
from orch.cli.summary import leader_alive
from orch.cli.usage import UsageError
from orch.errors import LogDamaged, RunBusy
from orch.sizes import format_size, parse_duration
from orch.store.file import FileStore
from orch.store.layout import log_dir
from orch.store.runs import list_runs


def strip_run(store: FileStore, run: str) -> Freed | None:
    """Delete a run but for what its calls need; None: it has none, and is still there. Raises `StoreError`."""
    try:
        return strip(store, run)
    except LogDamaged as error:
        say(f"orch: warning: {error}; so nobody can tell what the call cache needs of it, and nothing is kept")
        return None


def drop_calls(store: FileStore, older_than: str | None, *, yes: bool) -> int:
    """Drop what is kept for the call cache of deleted runs. Raises `UsageError`, `RunBusy`, `StoreError`."""
    age = parse_duration(older_than) if older_than else 0.0
    runs = deleted_runs(store)
    if not runs:
        say(f"the store {store.root} keeps nothing of deleted runs")
        return 0
    if not yes and not _agreed(store, len(runs), older_than):
        say("nothing was deleted")
        return 0
    _must_not_be_led(store)
    oldest = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    freed = drop(store, oldest.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    say(f"freed {format_size(freed.size)}: {freed.count} files (calls: {freed.calls})")
    for note in freed.notes:
        say(note)
    return 0


def _must_not_be_led(store: FileStore) -> None:
    """Who leads a run may be about to take a value, and its log does not say so yet."""
    for run in list_runs(store):
        if leader_alive(store.local_path(log_dir(run))):
            raise RunBusy(
                f"run {run} has a live leader, which may take values from the call cache at any moment: "
                "try again when it has ended"
            )


def _agreed(store: FileStore, runs: int, older_than: str | None) -> bool:
    which = f"calls older than {older_than}" if older_than else "all calls"
    what = f"{which} that are kept of {runs} deleted runs of {store.root}"
    if not sys.stdin.isatty():
        raise UsageError(f"orch clean --cache drops {what}: confirm with --yes")
    sys.stderr.write(f"drop {what}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
