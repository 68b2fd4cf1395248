"""`orch debug`: a job again, in the foreground, from copies of what it needs; or all that as an archive."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orch.cli.common import find_job, find_run, find_store, say
from orch.cli.parser import STORE, LogLevel, Store, application, command, natural
from orch.cli.usage import UsageError
from orch.hints import store_option
from orch.history import fold_quickly
from orch.store.layout import log_dir

app = application()


@command(app, "debug", "[OPTIONS] [RUN] JOB")
def debug(
    names: Annotated[list[str], typer.Argument(metavar="[RUN] JOB", hidden=True)],
    *,
    locator: Store = STORE,
    _level: LogLevel = "warning",
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", parser=natural, metavar="N", help="as attempt N ran (default: the latest)"),
    ] = None,
    pdb: Annotated[bool, typer.Option("--pdb", help="stop at the first line of the job, and where it raises")] = False,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", metavar="FILE", help="do not run it: write all it needs into FILE, a .tar.gz"),
    ] = None,
) -> int:
    """Run a job again in the foreground, from copies of its code and inputs. The run and its store are not changed.

    What the job returns goes to stdout. RUN defaults to the newest.
    """
    from orch.debugging import pack, reproduce

    if len(names) > 2:
        raise UsageError("orch debug: name a job, or a run and a job")
    if bundle is not None and pdb:
        raise UsageError("orch debug: --bundle does not run the job, so --pdb has nothing to do")
    store = find_store(locator)
    run = find_run(store, names[0] if len(names) == 2 else None)
    state = fold_quickly(store.local_path(log_dir(run)))
    row = find_job(state, names[-1], store_option(store))
    if pdb and row.form == "command":
        raise UsageError(f"orch debug --pdb: job {row.label} is a program; a debugger for Python cannot help")
    with tempfile.TemporaryDirectory(prefix="orch-debug-") as text:
        directory = Path(text)
        made = reproduce(store, state, row, directory, attempt)
        for warning in made.warnings:
            say(f"orch: {warning}")
        if bundle is None:
            say(f"== job {row.label}, attempt {made.attempt.attempt}, of run {run}: again, from copies in {directory}")
            return _run(directory, pdb=pdb)
        pack(directory, Path(bundle).absolute(), f"{run}-job{row.id}.{made.attempt.attempt}")
        lacks = ", but for what is missing," if made.missing else ""
        say(f"all that job {row.label} needs{lacks} is in {bundle}; unpack it, and run run.py")
    return 0


def _run(directory: Path, *, pdb: bool) -> int:
    """Its exit code: 0 or 1. Ctrl-C is the job's affair meanwhile."""
    from orch.debugging import command as program

    process = subprocess.Popen(program(directory, pdb=pdb))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return int(process.wait() != 0)
    finally:
        signal.signal(signal.SIGINT, before)
