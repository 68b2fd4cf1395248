"""Real batch systems on this host, for the tests in tests/real: scripts start them, and end what they have started."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

SYSTEMS = Path(__file__).parents[1] / "real" / "systems"

OF_SHELL = {"_", "SHLVL", "PWD", "OLDPWD"}

START_WITHIN = 280
"""Seconds; packages may have to be installed first."""


class System:
    """One of them: `NAME-up.sh DIR` starts it, and leaves the variables that its programs need in `DIR/env.sh`."""

    def __init__(self, name: str, directory: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.directory = directory
        self.settings = dict(settings)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have it, and its variables in the environment of this process."""
        before = dict(os.environ)
        try:
            self.start()
            os.environ.update(self.variables())
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            self._script("down", "--wipe")

    def start(self) -> None:
        """Start what does not run of it."""
        self._script("up")

    def _script(self, what: str, *options: str) -> None:
        argv = ["bash", str(SYSTEMS / f"{self.name}-{what}.sh"), str(self.directory), *options]
        done = subprocess.run(
            argv,
            env={**os.environ, **self.settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_WITHIN,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(argv)}: {done.stdout}{done.stderr}"

    def variables(self) -> dict[str, str]:
        """What its programs need to know: what `env.sh` adds to, or changes in, this environment."""
        argv = ["bash", "-c", '. "$0" && env -0', str(self.directory / "env.sh")]
        text = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout
        found = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
        return {name: value for name, value in found.items() if os.environ.get(name) != value and name not in OF_SHELL}

    def pid(self, name: str) -> int:
        """Of one of its daemons."""
        return int((self.directory / "run" / f"{name}.pid").read_text())

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End one of its daemons, and wait until it is gone."""
        pid = self.pid(name)
        os.kill(pid, number)
        until(lambda: not alive(pid), f"{name} to be gone")


class Slurm(System):
    """slurmctld, slurmdbd, and a slurmd for each node."""

    def __init__(self, directory: Path, nodes: int, port: int, **settings: str) -> None:
        basic = {"SLURM_NODES": str(nodes), "SLURM_PORT": str(port), "SLURM_GPUS": "2"}
        super().__init__("slurm", directory, {**basic, **settings})
        self.nodes = nodes

    def ask(self, *argv: str) -> str:
        """What one of its programs says."""
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    def states(self) -> dict[str, str]:
        """Of its nodes."""
        return dict(line.split() for line in self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines())

    def idle(self) -> None:
        """Wait until nothing runs or waits, and all nodes are there, whatever earlier tests have left, or ended."""
        daemons = ["slurmctld", *(f"slurmd-n{number}" for number in range(1, self.nodes + 1))]
        if not all(alive(self.pid(name)) for name in daemons):
            self.start()
        if self.ask("squeue", "-h", "-o", "%A"):
            self.ask("scancel", "--user=root")
        until(lambda: set(self.states().values()) == {"idle"}, "idle nodes")


def until(true: Callable[[], object], what: str, within: float = 60) -> None:
    """Look again and again."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"waited {within} s for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Is there such a process, and does it still run?"""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def free_ports(count: int) -> int:
    """The first of so many ports of this host in a row that nobody listens at."""
    for first in range(21000 + os.getpid() % 1000 * 10, 32000, count):
        if all(_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError(f"no {count} free ports in a row")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
