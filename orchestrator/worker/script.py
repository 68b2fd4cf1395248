"""The script that a batch system is given: what has to be said before a worker's interpreter starts."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import orch

INDEX = '"$@"'
"""Where the number of the task comes as an argument."""

_LEAKS = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "PYTHONWARNINGS", "PYTHONINSPECT")
"""What a login on the node may set for an interpreter that is not the one which runs here."""

_NEEDED = ("LD_LIBRARY_PATH",)
"""Variables of the leader without which its interpreter may not start on a node: that may come from a module."""


def worker_script(
    store: str,
    run: str,
    submission: str,
    *,
    size: int = 1,
    index: str = "",
    job: str = "",
    python: str = "",
    environment: Mapping[str, str] | None = None,
) -> str:
    """The text of the script, for /bin/sh. Paths may hold anything; those that are no text, as Python has them.

    `size`: how many tasks the submission has; with more than one, `index` names the variable in which a task finds its
    number (empty: that comes as the script's argument). `job`: the variable that says what the batch system calls the
    task. `python`: the interpreter; empty: this one. `environment`: that of the leader.
    """
    task = ("1",) if size == 1 else (("--task-from", index) if index else ())
    known = ("--job-from", job) if job else ()
    words = [python or sys.executable, "-P", "-m", "orch.worker", store, run, submission, *task, *known]
    ways = _ways() if python and python != sys.executable else []
    variables = {name: value for name, value in (environment or {}).items() if name in _NEEDED}
    if ways:
        variables["PYTHONPATH"] = os.pathsep.join(ways)
    lines = [
        "#!/bin/sh",
        f"# A task of submission {submission} of a run of orch. To run it once more does no harm: it has been claimed.",
        f"unset {' '.join(_LEAKS)}",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        "cd / || exit 70",
        f"exec {shlex.join(words)}" + ("" if task else f" {INDEX}"),
    ]
    return "\n".join(lines) + "\n"


def _ways() -> list[str]:
    """Where another interpreter can find `orch`. Where it is installed as a link to its sources, it cannot."""
    return [str(place.parent) for place in map(Path, orch.__path__) if place.name == "orch"]
