"""The commands of a batch system that is nobody's: what the dialect `fake` speaks with. Answers are JSON.

    fake-submit [--name N] [--label L] [--tasks N] [--cores N] [--memory BYTES] [--walltime S] [--grace S] [--queue Q]
                [--priority N] [--log FILE] [--keep KEY=VALUE]… SCRIPT [WORD …]       prints {"job": 12}
    fake-queue [--jobs 12,13] [--names a,b]         what is queued or runs; --names looks among what is over, too
    fake-history --jobs 12,13 [--since SECONDS]     what is over
    fake-cancel TASK …                              tasks are called 12, or 12.3 in an array
    fake-nodes

A task finds its name in FAKE_JOB, and its number in FAKE_INDEX if it is one of an array; and of the environment of
whoever submitted it nothing.
"""

from __future__ import annotations

import json
import sys

from orch.testing.cluster.client import Rejected, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from orch.testing.cluster.client import Client, Row

COMMANDS = {f"fake-{name}": f"{__name__}:{name}" for name in ("submit", "queue", "history", "cancel", "nodes")}

DOWN, REFUSED, USAGE, UNKNOWN = 75, 65, 64, 1
"""Exit codes: the server does not answer; it will never take this; the command line is wrong; no such task."""


def submit(cluster: Client, words: list[str]) -> int:
    """Hand over."""
    options, script = _parse(words)
    if not script:
        sys.stderr.write("fake-submit: what is to be run?\n")
        return USAGE
    size = int(options.pop("tasks", "1"))
    kept = dict(pair.split("=", 1) for pair in options.pop("keep", "").split("\0") if pair)
    name = "{job}.{index}" if size > 1 else "{job}"
    variables = {"FAKE_JOB": name, **({"FAKE_INDEX": "{index}"} if size > 1 else {})}
    return _answer(
        lambda: {
            "job": cluster.submit(
                script,
                name=options.get("name", ""),
                label=options.get("label", ""),
                tasks=range(1, size + 1) if size > 1 else (0,),
                variables=variables,
                out=options.get("log", ""),
                cores=int(options.get("cores", "1")),
                memory=int(options.get("memory", "0")),
                walltime=float(options.get("walltime", "0")),
                grace=float(options.get("grace", "1")),
                priority=int(options.get("priority", "0")),
                queue=options.get("queue", ""),
                extra=kept,
            )
        }
    )


def queue(cluster: Client, words: list[str]) -> int:
    """What there is now."""
    options, _ = _parse(words)
    if "names" in options:
        names = set(options["names"].split(","))
        return _answer(lambda: [_told(row) for row in [*cluster.jobs(), *cluster.history()] if row.name in names])
    return _answer(lambda: [_told(row) for row in cluster.jobs(_numbers(options))])


def history(cluster: Client, words: list[str]) -> int:
    """What there was."""
    options, _ = _parse(words)
    since = float(options.get("since", "0"))
    return _answer(lambda: [_told(row) for row in cluster.history(_numbers(options), since)])


def cancel(cluster: Client, words: list[str]) -> int:
    """End tasks; those that are not known are named, and make it exit with 1."""
    tasks = []
    for word in words:
        job, _, index = word.partition(".")
        tasks.append((int(job), int(index) if index else None))
    try:
        unknown = cluster.cancel(tasks)
    except Unreachable as error:
        return _down(error)
    for number, place in unknown:
        sys.stderr.write(f"fake: there is no task {number}{'' if place is None else f'.{place}'}\n")
    return UNKNOWN if unknown else 0


def nodes(cluster: Client, _words: list[str]) -> int:
    """What there is to run on."""
    return _answer(cluster.nodes)


def _answer(ask: Callable[[], object]) -> int:
    """Print what was asked for."""
    try:
        sys.stdout.write(json.dumps(ask(), ensure_ascii=False) + "\n")
    except Rejected as error:
        sys.stderr.write(f"fake: not accepted: {error}\n")
        return REFUSED
    except Unreachable as error:
        return _down(error)
    return 0


def _down(error: Unreachable) -> int:
    sys.stderr.write(f"fake: cannot reach the server ({error})\n")
    return DOWN


def _parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options, each with a value, up to the first word that is none. Those given twice are joined by NUL."""
    options: dict[str, str] = {}
    at = 0
    while at < len(words) and words[at].startswith("--"):
        name = words[at][2:]
        options[name] = f"{options[name]}\0{words[at + 1]}" if name in options else words[at + 1]
        at += 2
    return options, words[at:]


def _numbers(options: dict[str, str]) -> list[int] | None:
    return [int(word) for word in options["jobs"].split(",")] if "jobs" in options else None


def _told(row: Row) -> dict[str, object]:
    shown = ("name", "state", "why", "host", "reason", "code", "signal", "used", "restarts")
    task = f"{row.job}.{row.index}" if row.index else str(row.job)
    return {"task": task, **{name: getattr(row, name) for name in shown}}
