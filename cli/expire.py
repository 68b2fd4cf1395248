"""`orch clean --older-than`: delete the runs that nothing has happened in for so long."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from orch.bus.errors import OrchError
from orch.bus.lock import RunLock
from orch.cli.clean import STATES, delete_run
from orch.cli.common import say
from orch.cli.render import date_time, table, terminal_width
from orch.cli.usage import UsageError
from orch.clock import system_clock
from orch.errors import RunBusy
from orch.history import fold_quickly
from orch.sizes import format_size, parse_duration
from orch.state.graph import IllegalTransition
from orch.state.status import seconds_since
from orch.store.file import FileStore
from orch.store.layout import lock_file, log_dir, run_dir
from orch.store.runs import list_runs
from orch.summary import run_state


class Old(NamedTuple):
    """A run to be deleted. `last`: when something happened in it, UTC. `size` in bytes."""

    run: str
    state: str
    last: str
    size: int


def expire(store: FileStore, age: str, states: Sequence[str], *, yes: bool) -> int:
    """Delete old runs in these states (none: in all), once it was asked. Raises `UserError`."""
    seconds = parse_duration(age)
    found = find_old(store, seconds, states)
    which = f"{' or '.join(states)} " if states else ""
    if not found:
        say(f"the store {store.root} has no {which}runs older than {age}: nothing to do")
        return 0
    size = format_size(sum(each.size for each in found))
    rows = [[each.run, each.state, date_time(each.last), format_size(each.size)] for each in found]
    say(table(["RUN", "STATE", "LAST EVENT", "SIZE"], rows, width=terminal_width(is_terminal=sys.stderr.isatty())))
    if not yes and not _agreed(f"{_count(found)} of {store.root}, {size}"):
        say("nothing was deleted")
        return 0
    deleted = [each for each in found if _delete(store, each)]
    say(f"deleted {_count(deleted)}, {format_size(sum(each.size for each in deleted))}")
    return 0


def find_old(store: FileStore, seconds: float, states: Sequence[str], now: str = "") -> list[Old]:
    """Runs that nobody leads, whose last event is so old. What is only a link, or cannot be read, is none of them."""
    found = []
    for run in list_runs(store):
        directory = store.local_path(log_dir(run))
        if store.local_path(run_dir(run)).is_symlink() or _is_led(store, run):
            continue
        try:
            state = fold_quickly(directory)
        except (OrchError, IllegalTransition, OSError) as error:
            say(f"run {run} is left alone: {error}")
            continue
        word = run_state(state, alive=False)
        if seconds_since(state.time, now or system_clock()) >= seconds and word in (states or STATES):
            found.append(Old(run, word, state.time, _size(store.local_path(run_dir(run)))))
    return found


def _is_led(store: FileStore, run: str) -> bool:
    lock = store.local_path(lock_file(run))
    return lock.exists() and RunLock(lock).holder() is not None


def _size(root: Path) -> int:
    return sum(Path(place, name).lstat().st_size for place, _, names in os.walk(root) for name in names)


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"orch clean deletes {what}, for good: confirm with --yes")
    sys.stderr.write(f"delete {what}, with all their files? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(store: FileStore, old: Old) -> bool:
    try:
        delete_run(store, old.run)
    except RunBusy as error:  # somebody has carried it on just now
        say(f"run {old.run} is left alone: {error}")
        return False
    return True


def _count(runs: Sequence[Old]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
