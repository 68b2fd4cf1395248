"""Hosts that are network namespaces, each with an sshd; they can be cut off, and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

SYSTEMS = Path(__file__).parents[1] / "real" / "systems"
USER = "orchtest"


class Hosts:
    """`h1` … are for another user, who does not see what is the leader's; `r1` … are the same, for the leader's own."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.names = [f"h{number}" for number in range(1, count + 1)]
        self.config = directory / "config"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have them."""
        try:
            _do("bash", SYSTEMS / "netns-up.sh", len(self.names), self.directory)
            self._let_root_in()
            self.config.write_text("".join(self._entry(number) for number, _ in enumerate(self.names, 1)))
            yield
        finally:
            for number, _ in enumerate(self.names, 1):
                self.kill(number)
            _do("bash", SYSTEMS / "netns-down.sh", self.directory, "--purge")

    def _let_root_in(self) -> None:
        """An sshd for root beside each, with a login environment of its own."""
        for number, _ in enumerate(self.names, 1):
            home = self.directory / f"r{number}"
            home.mkdir()
            key = self.directory / f"h{number}" / "host_ed25519"
            own = home / "host_ed25519"
            own.write_bytes(key.read_bytes())
            own.chmod(0o600)
            (home / "config").write_text(
                f"ListenAddress 10.203.0.{10 + number}:2223\nHostKey {own}\nPidFile {home}/pid\n"
                f"AuthorizedKeysFile {self.directory}/authorized_keys\nStrictModes no\nUsePAM no\n"
                "PermitRootLogin yes\nPasswordAuthentication no\nUseDNS no\nSubsystem sftp internal-sftp\n"
                f"SetEnv XDG_CACHE_HOME={home}/cache LANG=C LOGIN_ONLY=r{number} TMPDIR={home}\n"
            )
            _do("ip", "netns", "exec", f"orch-h{number}", "unshare", "--uts", "sh", "-c",
                f"hostname orch-r{number}; exec /usr/sbin/sshd -f {home}/config -E {home}/log")  # fmt: skip
            public = Path(f"{key}.pub").read_text().split()[:2]
            with (self.directory / "known_hosts").open("a") as known:
                known.write(f"[10.203.0.{10 + number}]:2223 {' '.join(public)}\n")

    def _entry(self, number: int) -> str:
        common = f"  HostName 10.203.0.{10 + number}\n  IdentityFile {self.directory}/id_ed25519\n"
        common += f"  UserKnownHostsFile {self.directory}/known_hosts\n"
        return f"Host h{number}\n{common}  Port 2222\n  User {USER}\nHost r{number}\n{common}  Port 2223\n  User root\n"

    def cut(self, number: int) -> None:
        """Nothing gets through to a host."""
        _do("ip", "link", "set", f"orch-v{number}", "down")

    def mend(self, number: int) -> None:
        """It is back."""
        _do("ip", "link", "set", f"orch-v{number}", "up")

    def kill(self, number: int) -> None:
        """All that runs there is killed at once, as by a power cut."""
        for pid in self.processes(number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, number: int) -> list[int]:
        """What runs there."""
        done = subprocess.run(
            ["ip", "netns", "pids", f"orch-h{number}"], capture_output=True, text=True, timeout=20, check=False
        )
        return [int(each) for each in done.stdout.split()]


def _do(*argv: object) -> None:
    done = subprocess.run(
        [str(each) for each in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
