"""Which variables of a run's environment go along to another host.

On this host attempts inherit the leader's environment, by way of the agent's socket. To another host goes what `abroad`
leaves: without what looks like a secret, and without what only makes sense here. Only names are looked at. What is
named by `--set-env` goes along whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

inherited: dict[str, str] = {}
"""In a process that makes jobs: the environment of the run, before user code could change it. Else nothing."""

_SECRET = re.compile("KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)
"""PASS: PASSWORD, PASSWD, PASSPHRASE, DB_PASS. Rather one too many than one too few: `--set-env` brings it back."""

_HERE = re.compile(
    # who and where: the other host has its own, and its own user's home
    "HOME|USER|LOGNAME|USERNAME|SHELL|MAIL|PWD|OLDPWD|SHLVL|_|HOST|HOSTNAME|HOSTTYPE|MACHTYPE"
    # directories that are there on this host only, or on that one elsewhere
    "|TMPDIR|TMP|TEMP|XDG_.*|KRB5CCNAME"
    # sockets, sessions and terminals
    "|SSH_.*|DBUS_.*|DISPLAY|WAYLAND_DISPLAY|XAUTHORITY|SESSION_MANAGER|GPG_.*|TMUX.*|STY|WINDOWID"
    "|TERM.*|COLORTERM|COLUMNS|LINES|LS_COLORS|INVOCATION_ID|JOURNAL_STREAM|NOTIFY_SOCKET|LISTEN_.*|SYSTEMD_.*"
    # the batch job that the leader itself runs in: a program that finds these takes that job for its own
    "|SLURM.*|PBS_.*|LSB_.*|SGE_.*|JOB_ID|_CONDOR_.*|KUBERNETES_.*"
    # devices of this host
    "|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL"
    # what this host's agent and leader are told
    "|ORCH_.*"
)

_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")
"""What batch systems take as a name. Shells keep functions of theirs under others."""


def is_secret(name: str) -> bool:
    """Does the name of a variable say that its value should stay where it is?"""
    return _SECRET.search(name) is not None


def abroad(environment: Mapping[str, str], named: Collection[str] = ()) -> dict[str, str]:
    """What of `environment` goes along to another host; `named` are the names that the user gave by `--set-env`."""
    return {name: value for name, value in environment.items() if name in named or _travels(name)}


def packed(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` as text that messages can hold: bytes that are no text are allowed in it, but not in UTF-8."""
    return {_packed(name): _packed(value) for name, value in environment.items()}


def unpacked(environment: Mapping[str, str]) -> dict[str, str]:
    """The reverse of `packed`."""
    return {_unpacked(name): _unpacked(value) for name, value in environment.items()}


def _packed(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _unpacked(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


def _travels(name: str) -> bool:
    return not is_secret(name) and _HERE.fullmatch(name) is None and _PLAIN.fullmatch(name) is not None
