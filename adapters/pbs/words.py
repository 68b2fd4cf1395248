"""What a user may say to `qsub` beside what orch says: `pbs-args`, `pbs-reqs`, those of Torque, and `backend={…}`."""

from __future__ import annotations

import re
import shlex

_ASKED = "select|nodes|ppn|procs|nodect|ncpus|ngpus|gpus|mem|vmem|pmem|pvmem|walltime"
COUNTED = re.compile(rf"\b({_ASKED})\s*=", re.IGNORECASE)
_OURS = "oejkSvzJtINx"
"""Options that orch gives itself, or with which there would be no job, or many, or no answer."""
_VALUED = "aAbcCdDeFiJjKkLlMmNnoPpqrStTuvWw"


def check_args(text: str) -> None:
    """Further words for `qsub`. Raises `ValueError` for those that are not a user's to give."""
    words = split(text)
    while words:
        word = words.pop(0)
        if not re.fullmatch("-[A-Za-z].*", word):
            raise ValueError(f"{word!r} is no option of qsub")
        value = word[2:]
        if word[1] in _VALUED and not value:
            value = words.pop(0) if words else ""
        if word[1] in _OURS or (word[1] == "W" and "block" in value):
            raise ValueError(f"-{word[1]}: orch gives this itself")
        if word[1] == "l" and (found := COUNTED.search(value)):
            raise ValueError(not_here(found[1]))


def check_reqs(text: str) -> None:
    """Further parts of what a node is asked for. Raises `ValueError`, for cores and memory above all."""
    if found := COUNTED.search(text):
        raise ValueError(not_here(found[1]))
    if re.search(r"[\s,]", text):
        raise ValueError(f"{text!r}: parts are separated by ':', without spaces")


def not_here(name: str) -> str:
    """Where it belongs what somebody has asked for in the wrong place."""
    if name.lower() == "walltime":
        return "walltime belongs to the job (walltime=), or to --default-walltime"
    if name.lower() in ("select", "nodes"):
        return f"{name}= is made by orch; further parts of it go into a setting of their own (…-reqs)"
    return f"{name}= belongs to the job (cores=, memory=, accelerators=)"


def split(text: str) -> list[str]:
    """As a shell would. Raises `ValueError`."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
