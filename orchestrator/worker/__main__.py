"""`python -P -m orch.worker STORE RUN SUBMISSION (TASK | --task-from VARIABLE) [--job-from VARIABLE]`.

What a batch system runs on a node: one task of a submission (see `orch.worker.spool`). With exit code 0 there is an
outcome, or another worker has the ticket; with 70 the task could not be run, and the last line on stderr says why.

    --task-from VARIABLE   the number of the task is in this variable
    --job-from VARIABLE    what the batch system calls the task is in this variable
"""

from __future__ import annotations

import sys

from orch.worker.front import in_front, leave

USAGE = 64
"""EX_USAGE, sysexits.h."""


def main(argv: list[str]) -> int:
    """Run it; the exit code."""
    places, named = argv[:3], argv[3:]
    given: dict[str, str] = {}
    while named:
        name = named.pop(0)
        if name in ("--task-from", "--job-from") and named:
            given[name] = named.pop(0)
        elif name.isdecimal() and int(name):
            given["task"] = name
        else:
            return _usage()
    if len(places) < 3 or ("task" in given) == ("--task-from" in given):
        return _usage()
    return in_front(lambda warnings, front: _serve(places, given, warnings, front))


def _serve(places: list[str], given: dict[str, str], warnings: int, front: int) -> int:
    from orch.worker.serve import Front, Variables, serve
    from orch.worker.spool import Spool

    store, run, submission = places
    task = int(given["task"]) if "task" in given else None
    variables = Variables(given.get("--task-from", ""), given.get("--job-from", ""))
    return serve(Spool(store, run), submission, task, variables, Front(front, warnings))


def _usage() -> int:
    lines = (__doc__ or "").splitlines()
    sys.stderr.write(f"usage: {lines[0].strip('`.')}\n")
    return USAGE


if __name__ == "__main__":
    leave(lambda: main(sys.argv[1:]))
