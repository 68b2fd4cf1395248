"""`orch status`: the jobs of a run, as a picture, a list, JSON or a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orch.cli.common import find_log, say, store_hint
from orch.cli.parser import STORE, AsJson, LogLevel, RunId, Store, application, command, words
from orch.cli.render import clock_time
from orch.cli.summary import as_json, kept_summary, leader_alive, picture
from orch.cli.usage import UsageError
from orch.cli.view import jobs_table, show, show_summary
from orch.history import fold_quickly
from orch.state.law import JobState
from orch.state.model import State
from orch.state.status import job_status

_STATES = [state.value for state in JobState if state is not JobState.ADDED]

app = application()


@command(app, "status", "[OPTIONS] [RUN]")
def status(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    json: AsJson = False,
    only: Annotated[
        str,
        typer.Option(
            "--state",
            metavar="STATE",
            show_default=False,
            help=f"only jobs in it: {', '.join(_STATES)}",
            **words(_STATES),
        ),
    ] = "",
    jobs: Annotated[bool, typer.Option("--jobs", help="a line for each job, however many there are")] = False,
    graph: Annotated[
        str,
        typer.Option(
            "--graph",
            metavar="FORM",
            show_default=False,
            help="the graph: dot (text for graphviz), svg (needs graphviz)",
            **words(["dot", "svg"]),
        ),
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT",
            show_default=False,
            help="with --graph: a node for each job or kind (default: job; kind if there are more than 2000)",
            **words(["job", "kind"]),
        ),
    ] = "",
) -> int:
    """The jobs of a run (default: the newest), as they stand now."""
    _check(json=json, only=only, jobs=jobs, graph=graph, by=by)
    directory, _ = find_log(store, run)
    if not (json or jobs or graph or only) and show_kept(directory, store_hint(store)):
        return 0
    state = fold_quickly(directory)
    if graph:
        _graph(state, graph, by)
        return 0
    if jobs:
        rows = [row for row in state.jobs.values() if row.state is not JobState.ADDED and only in ("", row.state.value)]
        print(jobs_table([job_status(state, row) for row in rows], state.time))
        return 0
    alive = leader_alive(directory)
    if json:
        print(as_json(picture(state, alive, only)))
    else:
        show(state, alive, only=only, where=store_hint(store))
    return 0


def show_kept(directory: Path, where: str) -> bool:
    """Show a run with many events by what its leader keeps beside the log; False if that cannot be."""
    kept = kept_summary(directory)
    if kept is None or not kept.jobs:
        return False
    at = "" if kept.whole else f" (as of {clock_time(kept.summary.time)})"
    show_summary(kept.summary, kept.jobs, at=at, where=where)
    return True


def _check(*, json: bool, only: str, jobs: bool, graph: str, by: str) -> None:
    if bool(json) + bool(jobs) + bool(graph) > 1:
        raise UsageError("orch status: --json, --jobs and --graph are different things to print; choose one")
    if graph and only:
        raise UsageError("orch status: --graph shows all jobs, so --state does not go with it")
    if by and not graph:
        raise UsageError("orch status: --by goes with --graph")


def _graph(state: State, form: str, by: str) -> None:
    from orch.cli.graph import MOST_JOBS, dot, svg

    many = len(state.jobs) > MOST_JOBS
    if many and not by:
        say(f"{len(state.jobs)} jobs: drawn by kind; --by job draws each of them")
    text = dot(state, by_kind=by == "kind" or (many and not by))
    print(svg(text) if form == "svg" else text)
