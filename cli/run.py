"""`orch run`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orch.cli.parser import Parser, UsageError, common_options
from orch.cli.settings import add_faces, add_settings, pairs, settings
from orch.planner_process import start_early

if TYPE_CHECKING:
    from orch.bundle import Source
    from orch.errors import UserError

HELP = ("--help", "-h")


def execute(_command: str, arguments: Sequence[str]) -> int:
    """Run a workflow."""
    parser = _parser()
    count = parser.split(arguments, last="-m")
    options = parser.read(arguments[:count])
    target, rest = _target(parser, options, arguments[count:])
    start_early()  # its interpreter gets ready while this one imports the rest
    if any(token in HELP for token in rest):
        from orch.cli.workflow_help import show_help

        return show_help(_source(options, target), parser.format_usage(), target)
    return _run(options, parser, _source(options, target), rest)


def _parser() -> Parser:
    parser = Parser(
        "orch run",
        "[OPTIONS] WORKFLOW.py|-m PKG.MOD [the workflow's own --options]",
        "Run a workflow and print its result. Options after the workflow belong to it:\n"
        "orch run WORKFLOW.py --help shows them.",
    )
    common_options(parser)
    parser.option("-m", dest="module", metavar="PKG.MOD", help="a module; its whole package is stored with the run")
    parser.option("--no-deploy", action="store_true", help="store no code: all hosts read it from where it is")
    parser.option("--run-id", metavar="ID", help="the run's id (default: date and time)")
    parser.option("--name", metavar="TEXT", default="", help="a name for people")
    parser.option("--tag", metavar="K=V", action="append", default=[], help="a label; may be repeated")
    add_settings(parser)
    add_faces(parser)
    return parser


def _target(parser: Parser, options: argparse.Namespace, tail: Sequence[str]) -> tuple[str, list[str]]:
    """The workflow's file or module, and its own options."""
    if options.module is not None:
        return options.module, list(tail)
    if tail[:1] == ["--"]:
        tail = tail[1:]
    if not tail:
        parser.error("name a workflow: WORKFLOW.py or -m PKG.MOD")
    return tail[0], list(tail[1:])


def _source(options: argparse.Namespace, target: str) -> Source:
    from orch.bundle import Source

    if options.module is not None:
        return Source.of_module(target, deploy=not options.no_deploy)
    return Source.file(target, deploy=not options.no_deploy)


def _run(options: argparse.Namespace, parser: Parser, source: Source, rest: list[str]) -> int:
    from orch.api import Orchestrator, Run
    from orch.cli.lead import Face, lead
    from orch.errors import UserError
    from orch.store.locator import open_store

    store = open_store(options.store)
    tags = pairs(options.tag, "--tag")
    given = {**settings(options), "deploy": not options.no_deploy}

    async def begin(orchestrator: Orchestrator) -> Run:
        try:
            return await orchestrator.start(source, argv=rest, run_id=options.run_id, run_name=options.name, tags=tags)
        except UserError as error:
            raise _with_hint(error, parser, rest) from error

    return lead(store, given, begin, Face.of(options, store))


def _with_hint(error: UserError, parser: Parser, rest: Sequence[str]) -> UserError:
    """An option of ours that stands behind the workflow was taken for one of the workflow's."""
    ours = [token.partition("=")[0] for token in rest if token.startswith("--") and parser.knows(token)]
    stray = next((name for name in ours if f"option {name}" in str(error)), None)
    if stray is None:
        return error
    return UsageError(f"{error}\n{stray} is an option of orch run: put it before the workflow")
