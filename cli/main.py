"""The `orch` command: finds the sub-command, and imports only that one's module."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator, Sequence

from orch.cli.common import guarded, prepare_streams
from orch.cli.usage import UsageError, did_you_mean

COMMANDS = {
    "run": ("orch.cli.run", "run a workflow"),
    "replay": ("orch.cli.replay", "inspect a run as it stood, or carry it on"),
    "tail": ("orch.cli.tail", "print a run's events, as they come if wanted"),
    "list": ("orch.cli.runs", "the runs of the store"),
    "status": ("orch.cli.status", "the jobs of a run"),
    "logs": ("orch.cli.logs", "what jobs have written to stdout and stderr"),
    "files": ("orch.cli.files", "what jobs wrote to the store, and copies of it"),
    "why": ("orch.cli.why", "why a job failed, or does not run yet"),
    "stats": ("orch.cli.stats", "what the jobs of a run used, asked for and wasted"),
    "debug": ("orch.cli.debug", "run a job again in the foreground, from copies of its inputs"),
    "stop": ("orch.cli.control", "end what runs; the run can be carried on"),
    "pause": ("orch.cli.control", "start no more jobs"),
    "resume": ("orch.cli.control", "start jobs again after pause"),
    "cancel": ("orch.cli.control", "end a run for good"),
    "set": ("orch.cli.set", "change limits of a run that goes on"),
    "log": ("orch.cli.log", "verify, repair or export a run's log"),
    "clean": ("orch.cli.clean", "delete a run, or what no run needs"),
    "config": ("orch.cli.config", "each setting, its value, and where that comes from"),
}
"""Module and one line of help of each command. A module has an `app` that the command is declared in."""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point. Gives the exit code; raises `SystemExit` for help and nothing else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        prepare_streams()
    with no_collector(only_if=argv is None):
        return guarded(lambda: dispatch(arguments, alone=argv is None), debug=lambda: _wants_debug(arguments))


@contextlib.contextmanager
def no_collector(*, only_if: bool) -> Iterator[None]:
    """Importing and folding make nothing that is garbage soon; and what there is at the end need not be looked through.

    Saves a sixth of the time of a short command. What goes on for long calls `common.collect_again`. `only_if`: this
    process does nothing else.
    """
    if only_if:
        gc.disable()
    yield
    if only_if:
        gc.freeze()


def dispatch(arguments: Sequence[str], *, alone: bool = False) -> int:
    """Hand over to the command that is named first. `alone`: this process does nothing else."""
    if alone and arguments[:1] == ["run"]:
        from orch.cli.early import begin_early

        begin_early(arguments)  # others get ready while this process imports what the command line needs, and the rest
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name, *rest = arguments
    if name in ("--version", "-V", "version"):
        print(f"orch {version()}")
        return 0
    if name not in COMMANDS:
        if name.startswith("-"):
            raise UsageError(f"the command comes first, then its options: orch COMMAND {name} …; see: orch --help")
        raise UsageError(f"orch has no command {name!r}{did_you_mean(name, COMMANDS)}; see: orch --help")
    from orch.cli.parser import call

    module = importlib.import_module(COMMANDS[name][0])
    if name == "log":
        name, rest = module.choose(rest)
    return call(module.app, name, rest)


def overview() -> str:
    """What `orch` alone prints."""
    lines = [f"  {name:<8}{help_}" for name, (_, help_) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: orch COMMAND [OPTIONS] …",
            "",
            *lines,
            "",
            "orch COMMAND --help says more; orch run WORKFLOW.py --help shows a workflow's own options.",
            "RUN defaults to the newest run of the store; the store is --store, else as orch config store says.",
            "",
            "exit codes: 0 done, 1 the run failed, 2 wrong command line or workflow, 3 the run has another leader,",
            "4 damaged log, 5 cancelled, 6 the system failed us, 130 stopped (the run can be carried on).",
        ]
    )


def version() -> str:
    """Of the installed distribution."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("orch")
    except PackageNotFoundError:
        return "unknown"


def _wants_debug(arguments: Sequence[str]) -> bool:
    """Looked up in the raw arguments: it must be known also when they cannot be read."""
    text = " ".join(arguments)
    return "--log-level debug" in text or "--log-level=debug" in text


if __name__ == "__main__":
    sys.exit(main())
