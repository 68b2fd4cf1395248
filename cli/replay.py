"""`orch replay`: a run as it stood at an event; with `--restart` the run is carried on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orch.cli import settings as to
from orch.cli.adapters import WithAdapters
from orch.cli.common import find_log, find_run, find_store, say, store_hint, who
from orch.cli.parser import STORE, AsJson, LogLevel, RunId, Store, application, command, natural
from orch.cli.usage import UsageError

app = application()


@command(
    app,
    "replay",
    "[OPTIONS] [RUN]",
    cls=WithAdapters,
    epilog="The last group of options, --take-over and further, is for --restart; what is not given stays as it was.",
)
@to.with_settings(*to.OPTIONS)
def replay(  # noqa: PLR0913 - an option each
    context: typer.Context,  # noqa: ARG001 - what declares the settings reads it
    run: RunId = None,
    *,
    store: Store = STORE,
    log_level: LogLevel = "warning",
    at: Annotated[
        int | None,
        typer.Option("--at", parser=natural, metavar="SEQ", help="as it stood after event SEQ (default: the last)"),
    ] = None,
    json: AsJson = False,
    again: Annotated[
        bool, typer.Option("--restart", help="carry the run on; stdout and exit codes as orch run")
    ] = False,
    take_over: Annotated[bool, typer.Option("--take-over", help="even if another leader seems to be alive")] = False,
    out: to.Out = None,
    log_file: to.LogFile = "",
    quiet: to.Quiet = False,
    in_process: to.InProcess = False,
    given: to.Given,
) -> int:
    """A run (default: the newest) as it stood after an event, from its log alone.

    With --restart, carry it on: adopt what still runs, give failed jobs fresh tries.
    """
    if not again:
        others = {"take-over": take_over, "out": out, "log-file": log_file, "quiet": quiet, "in-process": in_process}
        _refuse_without_restart([*given, *(name for name, value in others.items() if value)])
        return inspect(store, run, at=at, json=json)
    if at is not None or json:
        raise UsageError("orch replay: --restart carries the run on from where it stands: give no --at or --json")
    face = {"quiet": quiet, "out": out, "level": log_level, "log": log_file}
    overrides = to.keywords(to.in_process(given) if in_process else given)
    return restart(store, run, overrides, face, take_over=take_over)


def _refuse_without_restart(options: Sequence[str]) -> None:
    for name in options:
        raise UsageError(f"orch replay: --{name} means something with --restart only")


def inspect(locator: str, run: str | None, *, at: int | None, json: bool) -> int:
    """Show the run."""
    from orch.cli.summary import as_json, leader_alive, picture
    from orch.cli.view import show
    from orch.history import fold_quickly

    directory, _ = find_log(locator, run)
    state = fold_quickly(directory, at)
    if at is not None and state.seq < at:
        raise UsageError(f"the log has {state.seq} events; there is no event {at} to stop at")
    alive = None if at is not None else leader_alive(directory)
    if json:
        print(as_json(picture(state, alive)))
    else:
        show(state, alive, at=f" (at event {at})" if at is not None else "", where=store_hint(locator))
    return 0


def _names(directory: Path, given: dict[str, str]) -> list[str]:
    """Variables that jobs are to have. Values are never stored: what is neither given now nor set here is missing."""
    from orch.bus.events import Created
    from orch.bus.reader import read

    before: list[str] = []
    for event in read(directory, to_seq=10):
        if isinstance(event, Created):
            before = event.settings.get("set_env", [])
    for name in before:
        if name not in given and name not in os.environ:
            say(f"orch: warning: the run was begun with --set-env {name}, which is not set here: give it again")
    return list(dict.fromkeys([*before, *given]))


def restart(locator: str, wanted: str | None, given: dict[str, Any], face: dict[str, Any], *, take_over: bool) -> int:
    """Carry the run on."""
    from orch.store.layout import log_dir

    store = find_store(locator)
    run = find_run(store, wanted)
    directory = store.local_path(log_dir(run))
    overrides = {**given, "set_env": _names(directory, given.get("set_env", {}))}
    from orch.api import Orchestrator, Run
    from orch.cli.lead import Face, lead

    async def begin(orchestrator: Orchestrator) -> Run:
        return await orchestrator.resume(run, take_over=take_over, by=who(), **overrides)

    return lead(store, given, begin, Face(store, **face))
