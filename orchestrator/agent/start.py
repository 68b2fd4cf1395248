"""Finding the agent of a store on this host, or starting it. Blocking: leaders call it in a thread."""

from __future__ import annotations

import os
import socket

from orch.agent import forerunner, paths
from orch.agent.forerunner import LOG, READY
from orch.errors import AdapterError
from orch.store.private import open_private

LONGEST_LOG = 256 * 1024


class AgentDiedError(AdapterError):
    """The agent ended before it answered; another may live."""


def reach(store: str, runtime: str) -> socket.socket:
    """A connection to the agent, which is started in `runtime` if there is none. Raises `AdapterError`."""
    try:
        found = _find(store)
        if found is not None:
            forerunner.drop_early()
            return found
        held = paths.lock(os.path.join(paths.agent_directory(store), "start.lock"))
        try:  # of two that start at once, the second finds the first one's agent
            found = _find(store)
            if found is None:
                _start(store, runtime)
                found = _find(store)
        finally:
            os.close(held)
    except OSError as error:
        raise AdapterError(f"the agent of {store} cannot be reached: {error.strerror or error}") from error
    if found is None:
        raise AgentDiedError(f"the agent ended at once{_last_words(store)}")
    return found


def _find(store: str) -> socket.socket | None:
    directory = paths.read_pointer(store)
    return paths.connect(directory) if directory else None


def _start(store: str, runtime: str) -> None:
    """Start an agent, and wait until it listens."""
    log = _log(store)
    os.close(open_private(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))  # what is wrong with it is found out here
    said = forerunner.take(store).start(runtime, log)
    if said != READY:
        why = f": {said.decode('utf-8', 'replace')}" if said else _last_words(store)
        raise AgentDiedError(f"the agent could not be started{why}")


def _log(store: str) -> str:
    """The agent's log, with a fresh page once it is long."""
    path = os.path.join(paths.agent_directory(store), LOG)
    if os.path.exists(path) and os.path.getsize(path) > LONGEST_LOG:
        os.replace(path, f"{path}.1")
    return path


def _last_words(store: str) -> str:
    path = os.path.join(paths.agent_directory(store), LOG)
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 2000))
            text = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"; the end of {path}:\n{text}" if text else f"; {path} is empty"
