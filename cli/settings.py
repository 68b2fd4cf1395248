"""The options of `orch run`, which `orch replay --restart` takes as overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from orch.cli.parser import count, positive, words
from orch.cli.usage import UsageError

# Settings of a run. None: not given.

Adapter = Annotated[str | None, typer.Option("--adapter", metavar="NAME", help="the batch system (default: local)")]
Cores = Annotated[
    float | None,
    typer.Option("--cores", parser=positive, metavar="N", help="use at most N cores at once (default: all)"),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="use at most so much memory at once, such as 8GiB (default: all)"),
]
Retries = Annotated[
    int | None,
    typer.Option("--retries", parser=count, metavar="N", help="tries after the first, for jobs that do not say (0)"),
]
WorkDir = Annotated[
    str | None,
    typer.Option("--work-dir", metavar="DIR", help="scratch, cache and sockets (default: $ORCH_WORK_DIR, else /tmp)"),
]
Durability = Annotated[
    str | None,
    typer.Option(
        "--durability",
        metavar="always|relaxed",
        help="sync the log at every step (always, default), or seldom",
        **words(("always", "relaxed")),
    ),
]
MaxLogSize = Annotated[
    str | None,
    typer.Option("--max-log-size", metavar="SIZE", help="keep so much of each output of an attempt (16MiB)"),
]
SetEnv = Annotated[
    list[str] | None,
    typer.Option(
        "--set-env",
        metavar="NAME[=VALUE]",
        help="a variable of the jobs' environment; without VALUE, that of this shell; values are never stored",
    ),
]

# How the run shows itself.

Out = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR|URL", help="export every file in the result there, and print the final paths"),
]
LogFile = Annotated[
    str,
    typer.Option("--log-file", metavar="FILE", show_default=False, help="write what is logged to FILE, as JSON lines"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="nothing but the result and errors")]


class Overrides(TypedDict):
    """The settings as they stand on the command line."""

    adapter: str | None
    cores: float | None
    memory: str | None
    retries: int | None
    work_dir: str | None
    durability: str | None
    max_log_size: str | None
    set_env: list[str] | None


def settings(options: Overrides) -> dict[str, Any]:
    """Keyword arguments for `Orchestrator`, of what was given. Raises `UserError` for what is no size or value."""
    from orch.sizes import parse_size

    memory, max_log = (
        None if text is None else parse_size(text) for text in (options["memory"], options["max_log_size"])
    )
    given = {
        "adapter": options["adapter"],
        "cores": options["cores"],
        "memory": memory,
        "retries": options["retries"],
        "work_dir": os.path.abspath(options["work_dir"]) if options["work_dir"] else None,
        "durability": options["durability"],
        "max_log": max_log,
        "set_env": environment(options["set_env"] or []) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def check_work_dir(adapter: str | None, given: str | None) -> None:
    """Can the work directory be used? Asked where this host is to use it. Raises `UserError`."""
    from orch.cli.export import check_directory

    if adapter not in (None, "local"):
        return
    if given:
        check_directory(Path(given).absolute(), f"--work-dir {given}")
    elif os.environ.get("ORCH_WORK_DIR"):
        found = os.environ["ORCH_WORK_DIR"]
        check_directory(Path(found).absolute(), f"$ORCH_WORK_DIR is {found}")


def environment(pairs: Sequence[str]) -> dict[str, str]:
    """From NAME and NAME=VALUE to variables; a NAME alone is looked up here."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not name.isprintable() or " " in name:
            what = f"names no variable, {name!r} cannot be one" if name else "names no variable"
            raise UsageError(f"--set-env {pair!r} {what}: give NAME or NAME=VALUE")
        if not equals and name not in os.environ:
            raise UsageError(f"--set-env {name}: the variable is not set here; give a value: --set-env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """From K=V texts to a dictionary."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not K=V")
        found[key] = value
    return found
