"""The `orch` command as a subprocess, the way a user has it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio

from orch.bus.events import Event
from orch.bus.tail import follow
from orch.store import layout

ORCH = [sys.executable, "-m", "orch.cli.main"]


def orch(*args: str | Path, cwd: Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*ORCH, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextlib.contextmanager
def running(*args: str | Path, cwd: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The command, while the block lasts; killed at its end if it still runs."""
    process = subprocess.Popen(
        [*ORCH, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def log_directory(store: Path, run: str) -> Path:
    """Where the run's segments are."""
    return store / layout.log_dir(run)


async def until(directory: Path, wanted: Any, timeout: float = 60) -> list[Event]:
    """Follow a log from another process until `wanted(event)`; all events up to and with that one."""
    seen: list[Event] = []
    with anyio.fail_after(timeout):
        while not directory.is_dir():
            await anyio.sleep(0.005)  # nothing to wait on before the log exists
        async for batch in follow(directory, 1):
            for event in batch:
                seen.append(event)
                if wanted(event):
                    return seen
    raise AssertionError("the log ended first")


def status(store: Path, run: str) -> dict[str, Any]:
    """`orch replay --json`."""
    done = orch("replay", run, "--json", "--store", store, cwd=store.parent)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tagged(text: str) -> list[int]:
    """Processes whose environment has `text`: what an attempt left behind carries the test's own mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found
