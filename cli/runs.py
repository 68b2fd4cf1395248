"""`orch list` and `orch status`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from orch.cli.common import find_log, find_store, say, store_option
from orch.cli.parser import Parser, common_options, natural
from orch.cli.render import date_time, table, terminal_width
from orch.cli.summary import Summary, as_json, leader_alive, picture, summarize
from orch.cli.view import show
from orch.errors import LogDamaged
from orch.history import fold_quickly
from orch.state.graph import IllegalTransition
from orch.state.law import JobState
from orch.state.model import State
from orch.store.layout import log_dir
from orch.store.runs import list_runs


def execute(command: str, arguments: Sequence[str]) -> int:
    """Either of the two."""
    return list_(arguments) if command == "list" else status(arguments)


def list_(arguments: Sequence[str]) -> int:
    """The runs of the store, newest first."""
    parser = Parser("orch list", "[--json] [--limit N]", "The runs of the store, the newest first.")
    common_options(parser)
    parser.option("--json", action="store_true", help="one JSON array of runs")
    parser.option("--limit", type=natural, metavar="N", help="the newest N only")
    options = parser.read(arguments)
    store = find_store(options.store)
    names = list_runs(store)
    runs = [_summary(store.local_path(log_dir(name)), name) for name in names[: options.limit]]
    if options.json:
        print(as_json(runs))
        return 0
    if not runs:
        say(f"the store {store.root} has no runs yet; begin one: orch run{store_option(store)} WORKFLOW.py")
        return 0
    head = ["RUN", "STATE", "JOBS", "DONE", "FAILED", "STARTED", "ENDED", "NAME"]
    print(table(head, [_row(run) for run in runs], width=terminal_width(is_terminal=sys.stdout.isatty())))
    return 0


def _summary(directory: Path, name: str) -> Summary:
    """Of one run. One that is damaged is shown as such: the others are still of interest."""
    alive = leader_alive(directory)
    try:
        return summarize(fold_quickly(directory), alive)
    except (LogDamaged, IllegalTransition) as error:
        return _damaged(name, str(error), alive)


def _damaged(name: str, why: str, alive: bool | None) -> Summary:
    import msgspec

    blank = summarize(State(), alive)
    return msgspec.structs.replace(blank, run=name, state="damaged", warnings=[why])


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


def status(arguments: Sequence[str]) -> int:
    """The jobs of a run, as they stand."""
    parser = Parser("orch status", "[OPTIONS] [RUN]", "The jobs of a run (default: the newest), as they stand now.")
    common_options(parser)
    parser.add_argument("run", nargs="?", metavar="RUN")
    parser.option("--json", action="store_true", help="one JSON object, see docs/commands.md")
    states = [state.value for state in JobState if state is not JobState.ADDED]
    parser.option("--state", choices=states, metavar="STATE", default="", help="only jobs in it: " + ", ".join(states))
    options = parser.read(arguments)
    directory, _ = find_log(options.store, options.run)
    state = fold_quickly(directory)
    alive = leader_alive(directory)
    if options.json:
        print(as_json(picture(state, alive, options.state)))
    else:
        show(state, alive, only=options.state, most=0 if options.state else 50)
    return 0
