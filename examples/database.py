"""A PostgreSQL server as a service, used by three jobs: it is there for as long as they need it.

orch run examples/database.py --numbers 1000

Needs PostgreSQL's own programs: those on PATH, or the newest below /usr/lib/postgresql.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import orch


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is. Raises FileNotFoundError."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default="")
    if not found:
        raise FileNotFoundError(f"{name} is not installed: it is part of PostgreSQL's server")
    return found


class Postgres(orch.Service):
    """A server with a database of its own, which goes with it. `script` fills that: also when it had to start again."""

    def __init__(self, script: str, memory: str = "1 GiB") -> None:
        super().__init__(name="postgres", memory=memory, cores=0.5, retries=2, check_interval="2s")
        self.script = script
        self.owner = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root

    def start(self) -> dict[str, Any]:
        """Make a cluster, and start a server for it. What this returns is what the jobs get."""
        # Other users cannot look into our scratch directory.
        outside = "/tmp" if self.owner else None  # noqa: S108 - mkdtemp makes a directory that is nobody else's
        self.home = Path(tempfile.mkdtemp(prefix="orch-postgres-", dir=outside))
        orch.context().defer(shutil.rmtree, self.home, ignore_errors=True)  # also if this process is killed
        password = secrets.token_urlsafe()
        (self.home / "password").write_text(password)
        if self.owner:
            shutil.chown(self.home, self.owner)
            shutil.chown(self.home / "password", self.owner)
        who = ["--username=orch", f"--pwfile={self.home}/password", "--auth=scram-sha-256"]
        self._call("initdb", "--no-sync", "--encoding=UTF8", *who)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._call("pg_ctl", "start", "--wait", f"--log={self.home}/log", f"--options={options}")
        found = {"host": "127.0.0.1", "port": port, "user": "orch", "password": password, "database": "postgres"}
        query(found, self.script)
        return found

    def check(self) -> None:
        """Raises if the server is not there any more: then another one is started."""
        self._call("pg_ctl", "status")

    def stop(self) -> None:
        """Called when nobody needs it any more."""
        self._call("pg_ctl", "stop", "--mode=fast")

    def _call(self, name: str, *arguments: str) -> None:
        argv = [program(name), f"--pgdata={self.home}/data", *arguments]
        subprocess.run(argv, check=True, cwd=self.home, user=self.owner, stdin=subprocess.DEVNULL)


def query(server: dict[str, Any], sql: str) -> str:
    """What psql prints. Raises CalledProcessError."""
    where = [f"--host={server['host']}", f"--port={server['port']}", f"--username={server['user']}"]
    return subprocess.run(
        [program("psql"), *where, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", f"--command={sql}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PGPASSWORD": server["password"], "PGDATABASE": server["database"]},
    ).stdout.strip()


@orch.job(cores=0.5)
def count(server: dict[str, Any]) -> int:
    """How many numbers there are."""
    return int(query(server, "select count(*) from number"))


@orch.job(cores=0.5)
def total(server: dict[str, Any]) -> int:
    """The sum of all."""
    return int(query(server, "select sum(value) from number"))


@orch.job(cores=0.5)
def squares(server: dict[str, Any]) -> int:
    """How many are squares."""
    return int(query(server, "select count(*) from number where sqrt(value) = floor(sqrt(value))"))


@orch.workflow
def main(numbers: int = 1000) -> Any:
    """Fill a table with NUMBERS numbers, and ask three questions about them."""
    script = f"create table number as select generate_series(1, {numbers:d}) as value"
    server = orch.context().add_service(Postgres(script))
    return {"numbers": count(server), "total": total(server), "squares": squares(server)}
