"""Who we are: host, process, boot and user, for the first line of a segment and for the lock."""

from __future__ import annotations

import datetime as dt
import functools
import os
import socket
import time
from pathlib import Path

import msgspec


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process, named so that it is never mistaken for another. `boot` is the host's boot id, "" if not known."""

    host: str
    pid: int
    boot: str = ""
    user: str = ""
    version: str = ""


def whoami(version: str = "") -> Identity:
    """This process. `version` is orch's."""
    return Identity(socket.gethostname(), os.getpid(), _boot_id(), _user(), version)


def utc_now() -> str:
    """The time as events have it: UTC, ISO 8601, microseconds, "Z"."""
    second, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_to_the_second(second)}.{rest // 1000:06d}Z"


@functools.lru_cache(maxsize=1)  # it is asked for thousands of times a second
def _to_the_second(second: int) -> str:
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


@functools.cache  # no process outlives its boot
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _user() -> str:
    return _user_of(os.getuid(), *map(os.environ.get, ("LOGNAME", "USER", "LNAME", "USERNAME")))


@functools.cache  # where no variable tells, the password database is read
def _user_of(uid: int, *_names: str | None) -> str:
    import getpass  # not at the top: agents only want the time

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in the password database, as in some containers
        return str(uid)
