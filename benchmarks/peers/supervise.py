"""Runs a driver, and ends everything that it leaves behind: some engines leave daemons."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from peers.environments import Environment

DRIVERS = Path(__file__).parent / "drivers"
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make what descends from this process its child as soon as it has no other parent (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children() -> None:
    """Kill all children of this process, and theirs, which become ours.

    None is reaped before it is killed: so no number can belong to another process by then.
    """
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(int(pid), 0)


def run_driver(
    environment: Environment, driver: str, form: str, wanted: list[str], patience: float, log: Path
) -> list[dict[str, Any]]:
    """What a driver says of the workloads it is to run; what it did not come to is said to have failed."""
    command = [str(environment.python), str(DRIVERS / f"with_{driver}.py"), form or "-", *wanted]
    with (
        tempfile.TemporaryDirectory(
            prefix=".bench-", dir=os.path.abspath(os.environ.get("BENCH_DIR", ".")), ignore_cleanup_errors=True
        ) as place,
        tempfile.TemporaryFile("w+") as stdout,
        log.open("a") as stderr,
    ):
        variables = environment.variables() | {"HOME": place, "TMPDIR": place}
        process = subprocess.Popen(
            command,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=variables,
            start_new_session=True,
        )
        try:
            problem = f"ended with exit code {process.wait(patience)}"
        except subprocess.TimeoutExpired:
            problem = f"not done after {patience:g} s"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            end_children()
        stdout.seek(0)
        said = [json.loads(line) for line in stdout if line.startswith("{")]
    known = {f"{one['workload']}:{one['size']}" for one in said}
    for name, _, size in (text.partition(":") for text in wanted if text not in known):
        said.append({"workload": name, "size": int(size), "error": problem})
    return said
