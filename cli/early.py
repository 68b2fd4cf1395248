"""What `orch run` starts before it has imported, or even read, anything: by a first look at the command line.

A wrong guess costs some time of another core: who is not wanted sees its stdin end, and leaves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from orch.agent import forerunner
from orch.planner_process import start_early


def begin_early(arguments: Sequence[str]) -> None:
    """Start a planner, and an agent where none seems to be, if this is going to be a run."""
    if not wants_planner(arguments):
        return
    store = probable_store(arguments)
    if wants_agent(arguments) and not has_agent(store):
        forerunner.start_early(store)
    start_early()


def wants_planner(arguments: Sequence[str]) -> bool:
    """Is this going to be a run, in processes of its own?"""
    if arguments[:1] != ["run"] or "--in-process" in arguments:
        return False
    return any((token.startswith("-m") or (token.endswith(".py") and os.path.isfile(token))) for token in arguments[1:])


def wants_agent(arguments: Sequence[str]) -> bool:
    """Is it going to run on this host?"""
    if not {"--help", "-h"}.isdisjoint(arguments):
        return False
    return (_option(arguments, "--adapter") or os.environ.get("ORCH_ADAPTER") or "local") == "local"


def probable_store(arguments: Sequence[str]) -> str:
    """The store's directory, as `FileStore` would name it, unless a settings file names another."""
    named = _option(arguments, "--store") or os.environ.get("ORCH_STORE") or ".orch"
    return os.path.abspath(os.path.expanduser(named.removeprefix("file:")))


def has_agent(store: str) -> bool:
    """Is there a socket where the last agent of this host has lived?"""
    try:
        with open(os.path.join(store, "agents", os.uname().nodename, "runtime"), "rb") as file:
            runtime, _, named = file.read().partition(b"\0")
    except OSError:
        return False
    return named == os.fsencode(store) and os.path.exists(os.path.join(runtime, b"agent.sock"))


def _option(arguments: Sequence[str], name: str) -> str:
    """The value of an option; empty if it is not there."""
    for number, token in enumerate(arguments):
        if token == name:
            return "".join(arguments[number + 1 : number + 2])
        if token.startswith(f"{name}="):
            return token.partition("=")[2]
    return ""
