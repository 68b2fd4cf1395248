"""`orch list`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from orch.cli.common import find_store, say
from orch.cli.parser import STORE, LogLevel, Store, application, command, natural
from orch.cli.render import date_time, table, terminal_width
from orch.cli.summary import as_json, kept_summary, leader_alive
from orch.errors import LogDamaged, OrchError
from orch.hints import store_option
from orch.history import fold_quickly
from orch.state.graph import IllegalTransition
from orch.state.law import JobState
from orch.state.model import State
from orch.store.layout import log_dir
from orch.store.runs import list_runs
from orch.summary import Summary, summarize

app = application()


@command(app, "list", "[OPTIONS]")
def list_(
    *,
    locator: Store = STORE,
    _level: LogLevel = "warning",
    json: Annotated[bool, typer.Option("--json", help="one JSON array of runs")] = False,
    limit: Annotated[int | None, typer.Option("--limit", parser=natural, metavar="N", help="the newest N only")] = None,
) -> int:
    """The runs of the store, the newest first."""
    store = find_store(locator)
    names = list_runs(store)
    runs = [_summary(store.local_path(log_dir(name)), name) for name in names[:limit]]
    if json:
        print(as_json(runs))
        return 0
    if not runs:
        say(f"the store {store.root} has no runs yet; begin one: orch run{store_option(store)} WORKFLOW.py")
        return 0
    head = ["RUN", "STATE", "JOBS", "DONE", "FAILED", "STARTED", "ENDED", "NAME"]
    print(table(head, [_row(run) for run in runs], width=terminal_width(is_terminal=sys.stdout.isatty())))
    return 0


def _summary(directory: Path, name: str) -> Summary:
    """Of one run, under the name that it has here. One that cannot be read is shown as such: the others count too."""
    kept = kept_summary(directory)
    if kept is not None:
        return msgspec.structs.replace(kept.summary, run=name)
    try:
        found = summarize(fold_quickly(directory), alive=leader_alive(directory))
    except (OrchError, IllegalTransition, OSError) as error:
        state = "damaged" if isinstance(error, (LogDamaged, IllegalTransition)) else "unreadable"
        found = msgspec.structs.replace(summarize(State(), alive=None), state=state, warnings=[str(error)])
    return msgspec.structs.replace(found, run=name)


def _row(run: Summary) -> list[str]:
    tags = " ".join(f"{key}={value}" for key, value in run.tags.items())
    return [
        run.run,
        run.state,
        str(run.jobs_total),
        str(run.counts[JobState.DONE.value]),
        str(run.counts[JobState.FAILED.value]),
        date_time(run.started),
        date_time(run.ended),
        " ".join(filter(None, [run.name, tags])),
    ]
