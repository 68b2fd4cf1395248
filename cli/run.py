"""`orch run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orch.cli import settings as to
from orch.cli.adapters import WithAdapters
from orch.cli.parser import HELP, STORE, Command, LogLevel, Store, application, command
from orch.cli.usage import UsageError

if TYPE_CHECKING:
    from orch.api import Orchestrator, Run
    from orch.bundle import Source
    from orch.errors import UserError

app = application()


class _RunCommand(WithAdapters):
    """What comes after the module belongs to the workflow, as what comes after a file does."""

    ends_with = "-m"


@command(
    app,
    "run",
    "[OPTIONS] WORKFLOW.py|-m PKG.MOD [the workflow's own --options]",
    cls=_RunCommand,
    allow_interspersed_args=False,
)
@to.with_settings(*to.OPTIONS)
def run(  # noqa: PLR0913 - an option each
    context: typer.Context,
    tokens: Annotated[list[str] | None, typer.Argument(metavar="WORKFLOW.py", hidden=True)] = None,
    *,
    store: Store = STORE,
    log_level: LogLevel = "warning",
    module: Annotated[
        str | None, typer.Option("-m", metavar="PKG.MOD", help="a module; its whole package is stored with the run")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="the run's id (default: date and time)")
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", show_default=False, help="a name for people")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V", help="a label; may be repeated")] = None,
    out: to.Out = None,
    log_file: to.LogFile = "",
    quiet: to.Quiet = False,
    in_process: to.InProcess = False,
    given: to.Given,
) -> int:
    """Run a workflow and print its result.

    Options after the workflow belong to it: orch run WORKFLOW.py --help shows them.
    """
    target, rest = _target(context, module, tokens or [])
    given = to.everywhere(to.in_process(given) if in_process else given)
    source = _source(target, is_module=module is not None, deploy=to.keywords(given).get("deploy", True))
    if any(token in HELP for token in rest):
        from orch.cli.workflow_help import show_help

        return show_help(source, context.get_usage(), target)
    to.check_work_dir(given)
    start = {"argv": rest, "run_id": run_id, "run_name": name, "tags": to.pairs(tag or [], "--tag")}
    face = {"quiet": quiet, "out": out, "level": log_level, "log": log_file}
    return _run(context, store, source, to.keywords(given), start, face)


def _target(context: typer.Context, module: str | None, tokens: Sequence[str]) -> tuple[str, list[str]]:
    """The workflow's file or module, and its own options."""
    if module is not None:
        return module, list(tokens)
    if not tokens:
        assert isinstance(context.command, Command)
        context.command.refuse(context, "name a workflow: WORKFLOW.py or -m PKG.MOD")
    return tokens[0], list(tokens[1:])


def _source(target: str, *, is_module: bool, deploy: bool) -> Source:
    from orch.bundle import Source

    return Source.of_module(target, deploy=deploy) if is_module else Source.file(target, deploy=deploy)


def _run(
    context: typer.Context,
    locator: str,
    source: Source,
    given: dict[str, Any],
    start: dict[str, Any],
    face: dict[str, Any],
) -> int:
    from orch.agent.forerunner import drop_early
    from orch.cli.lead import Face, lead
    from orch.errors import UserError
    from orch.store.locator import open_store

    if given.get("adapter", "local") != "local":
        drop_early()
    store = open_store(locator)

    async def begin(orchestrator: Orchestrator) -> Run:
        try:
            return await orchestrator.start(source, **start)
        except UserError as error:
            raise _with_hint(error, context, start["argv"]) from error

    return lead(store, given, begin, Face(store, **face))


def _with_hint(error: UserError, context: typer.Context, rest: Sequence[str]) -> UserError:
    """An option of ours that stands behind the workflow was taken for one of the workflow's."""
    own = context.command
    assert isinstance(own, Command)
    ours = [token.partition("=")[0] for token in rest if token.startswith("--") and own.knows(token)]
    stray = next((name for name in ours if f"option {name}" in str(error)), None)
    if stray is None:
        return error
    return UsageError(f"{error}\n{stray} is an option of orch run: put it before the workflow")
