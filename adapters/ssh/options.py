"""The settings of hosts over ssh, as a run has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from orch.adapters.agents.host import LOST_AFTER
from orch.adapters.ssh.names import Name, parse_hosts
from orch.errors import UserError
from orch.sizes import parse_duration

CONNECT_TIMEOUT = 20.0
"""Seconds in which a host has to let us in."""


class SshOptions(NamedTuple):
    """`config`: files of OpenSSH's configuration; `lost_after` and `timeout` in seconds. Empty: what OpenSSH does."""

    hosts: tuple[Name, ...]
    config: tuple[str, ...] = ()
    key: str = ""
    known_hosts: str = ""
    python: str = ""
    work_dir: str = ""
    lost_after: float = LOST_AFTER
    timeout: float = CONNECT_TIMEOUT


def read_options(given: Mapping[str, str]) -> SshOptions:
    """From `RunInfo.options`. Raises `UserError`."""
    if not given.get("ssh-hosts", "").strip():
        raise UserError(
            "the adapter ssh needs hosts: --ssh-hosts node1:16,user@node2:8, or ssh-hosts in orch.toml (the number is "
            "that of cores to be used; without it, all)"
        )
    try:
        return SshOptions(
            hosts=parse_hosts(given["ssh-hosts"]),
            config=_configuration(given.get("ssh-config", "")),
            key=_readable(given.get("ssh-key", ""), "ssh-key"),
            known_hosts=_readable(given.get("ssh-known-hosts", ""), "ssh-known-hosts"),
            python=given.get("ssh-python", ""),
            work_dir=_absolute(given.get("ssh-work-dir", "")),
            lost_after=parse_duration(given.get("ssh-lost-after") or LOST_AFTER),
            timeout=parse_duration(given.get("ssh-connect-timeout") or CONNECT_TIMEOUT),
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def _configuration(path: str) -> tuple[str, ...]:
    if path:
        return (_readable(path, "ssh-config"),)
    usual = os.path.expanduser("~/.ssh/config")
    return (usual,) if os.path.exists(usual) else ()


def _readable(path: str, name: str) -> str:
    found = os.path.expanduser(path)
    if found and not os.access(found, os.R_OK):
        raise UserError(f"{name} is {path}, which is not a file that can be read")
    return found


def _absolute(path: str) -> str:
    if path and not path.startswith("/"):
        raise UserError(f"ssh-work-dir is {path!r}: it is a path on the hosts, and has to begin with /")
    return path
