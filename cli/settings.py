"""The options of `orch run`, which `orch replay --restart` takes as overrides."""

from __future__ import annotations

import argparse
import os
from typing import Any

from orch.cli.parser import Parser, UsageError, natural


def add_settings(parser: Parser) -> None:
    """Options that are settings of a run. None: not given."""
    parser.option("--adapter", metavar="NAME", help="the batch system (default: local)")
    parser.option("--cores", type=positive, metavar="N", help="use at most N cores at once (default: all)")
    parser.option("--memory", metavar="SIZE", help="use at most so much memory at once, such as 8GiB (default: all)")
    parser.option("--retries", type=_count, metavar="N", help="tries after the first, for jobs that do not say (0)")
    parser.option("--work-dir", metavar="DIR", help="scratch, cache and sockets (default: $ORCH_WORK_DIR, else /tmp)")
    parser.option(
        "--durability", choices=("always", "relaxed"), help="sync the log at every step (always, default), or seldom"
    )
    parser.option("--max-log-size", metavar="SIZE", help="keep so much of each output of an attempt (16MiB)")
    parser.option(
        "--set-env",
        metavar="NAME[=VALUE]",
        action="append",
        default=[],
        help="a variable of the jobs' environment; without VALUE, that of this shell; values are never stored",
    )


def add_faces(parser: Parser) -> None:
    """Options that say how the run shows itself."""
    parser.option("--out", metavar="DIR|URL", help="export every file in the result there, and print the final paths")
    parser.option("--log-file", metavar="FILE", help="write what is logged to FILE, as JSON lines")
    parser.option("--quiet", "-q", action="store_true", help="nothing but the result and errors")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `Orchestrator`, of what was given. Raises `UserError` for what is no size or value."""
    from orch.sizes import parse_size

    memory, max_log = (None if text is None else parse_size(text) for text in (options.memory, options.max_log_size))
    given = {
        "adapter": options.adapter,
        "cores": options.cores,
        "memory": memory,
        "retries": options.retries,
        "work_dir": os.path.abspath(options.work_dir) if options.work_dir else None,
        "durability": options.durability,
        "max_log": max_log,
        "set_env": environment(options.set_env) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def environment(pairs: list[str]) -> dict[str, str]:
    """From NAME and NAME=VALUE to variables; a NAME alone is looked up here."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise UsageError(f"--set-env {pair!r} names no variable: give NAME or NAME=VALUE")
        if not equals and name not in os.environ:
            raise UsageError(f"--set-env {name}: the variable is not set here; give a value: --set-env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """From K=V texts to a dictionary."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not K=V")
        found[key] = value
    return found


def positive(text: str) -> float:
    """A number above 0, for `type=`."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


positive.__name__ = _count.__name__ = natural.__name__
