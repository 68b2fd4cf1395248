"""A real database as a service, used by jobs that run beside it. It runs as a user of its own where we are root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orch


class Database(orch.Service):
    """PostgreSQL, on a socket in a directory of its own: below /tmp, for names of sockets are short."""

    def __init__(self, log: str) -> None:
        super().__init__(check_interval="0.2s", memory="500 MiB")
        self.log = log

    def start(self) -> dict[str, str]:
        self.directory = f"/tmp/orch-pg-{os.getpid()}"
        orch.context().defer(shutil.rmtree, self.directory, ignore_errors=True)
        os.mkdir(self.directory, 0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self._run("initdb", "-A", "trust", "-U", "me", "--no-sync")
        options = f"-k {self.directory} -c listen_addresses="
        self._run("pg_ctl", "-w", "-l", f"{self.directory}/log", "-o", options, "start")
        sql(self.directory, "create table numbers (n int)")
        self._say("up")
        return {"host": self.directory}

    def check(self) -> None:
        self._run("pg_ctl", "status")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "fast", "stop")
        self._say("down")

    def _run(self, program: str, *arguments: str) -> None:
        user = "nobody" if os.geteuid() == 0 else None
        argv = [program, "-D", f"{self.directory}/data", *arguments]
        subprocess.run(argv, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    def _say(self, word: str) -> None:
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.write(f"{word} {self.directory}\n")


def sql(host: str, text: str) -> str:
    """What `psql` says to a statement."""
    argv = ["psql", "-h", host, "-U", "me", "-d", "postgres", "-Atc", text]
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd="/").stdout.strip()


@orch.job
def insert(database: dict[str, str], n: int) -> str:
    return sql(database["host"], f"insert into numbers values ({n})")


@orch.job
def total(database: dict[str, str], _done: list[str]) -> int:
    return int(sql(database["host"], "select sum(n) from numbers"))


@orch.job
def with_database(log: str) -> Any:
    here = orch.context()
    database = here.add_service(Database(log))
    return here.add_child(total(database, [here.add_child(insert(database, n)) for n in (1, 2, 3)]))


@orch.workflow
def main(log: str) -> Any:
    return with_database(log)
