"""`orch replay`: a run as it stood at an event; with `--restart` the run is carried on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from orch.cli.common import find_log, find_run, find_store, say, who
from orch.cli.parser import Parser, UsageError, common_options, natural
from orch.cli.settings import add_faces, add_settings, settings

_ONLY_RESTART = ("take_over", "adapter", "cores", "memory", "retries", "work_dir", "durability", "max_log_size",
                 "set_env", "out", "log_file", "quiet")  # fmt: skip


def execute(_command: str, arguments: Sequence[str]) -> int:
    """Inspect, or carry on."""
    options = _parser().read(arguments)
    if not options.restart:
        _refuse_without_restart(options)
        return inspect(options)
    if options.at is not None or options.json:
        raise UsageError("orch replay: --restart carries the run on from where it stands: give no --at or --json")
    return restart(options)


def _parser() -> Parser:
    parser = Parser(
        "orch replay",
        "[OPTIONS] [RUN]",
        "A run (default: the newest) as it stood after an event, from its log alone;\n"
        "with --restart, carry it on: adopt what still runs, give failed jobs fresh tries.",
        "The last group of options, --take-over and further, is for --restart; what is not given stays as it was.",
    )
    common_options(parser)
    parser.add_argument("run", nargs="?", metavar="RUN")
    parser.option("--at", type=natural, metavar="SEQ", help="as it stood after event SEQ (default: the last)")
    parser.option("--json", action="store_true", help="one JSON object, see docs/commands.md")
    parser.option("--restart", action="store_true", help="carry the run on; stdout and exit codes as orch run")
    parser.option("--take-over", action="store_true", help="even if another leader seems to be alive")
    add_settings(parser)
    add_faces(parser)
    return parser


def _refuse_without_restart(options: argparse.Namespace) -> None:
    for name in _ONLY_RESTART:
        if getattr(options, name):
            raise UsageError(f"orch replay: --{name.replace('_', '-')} means something with --restart only")


def inspect(options: argparse.Namespace) -> int:
    """Show the run."""
    from orch.cli.summary import as_json, leader_alive, picture
    from orch.cli.view import show
    from orch.history import fold_quickly

    directory, _ = find_log(options.store, options.run)
    state = fold_quickly(directory, options.at)
    if options.at is not None and state.seq < options.at:
        raise UsageError(f"the log has {state.seq} events; there is no event {options.at} to stop at")
    alive = None if options.at is not None else leader_alive(directory)
    if options.json:
        print(as_json(picture(state, alive)))
    else:
        show(state, alive, at=f" (at event {options.at})" if options.at is not None else "")
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


def restart(options: argparse.Namespace) -> int:
    """Carry the run on."""
    from orch.store.layout import log_dir

    store = find_store(options.store)
    run = find_run(store, options.run)
    given = settings(options)
    directory = store.local_path(log_dir(run))
    overrides = {**given, "set_env": _names(directory, given.get("set_env", {}))}
    from orch.api import Orchestrator, Run
    from orch.cli.lead import Face, lead

    async def begin(orchestrator: Orchestrator) -> Run:
        return await orchestrator.resume(run, take_over=options.take_over, by=who(), **overrides)

    return lead(store, given, begin, Face.of(options, store))
