"""Where an agent has its runtime directory, its journal and its socket.

    <work_dir>/<host>/<hash of store>/     the runtime directory: 0700, this user's own
        agent.sock
        scratch/                           scratch directories of attempts
        spare/                             empty ones, to be used again
        trash/                             scratch directories on their way out
    <store>/agents/<host>/
        journal, agent.log
        agent.lock                         held by the agent while it lives
        start.lock                         held by whoever starts one
        runtime                            names the runtime directory that the agent lives in

There is one agent for a store, user and host, whatever work directories its leaders ask for: hence the locks, and the
name of the place where it is found, are in the store.

A socket's path is limited to 107 bytes (unix(7)), a work directory's is not: sockets are bound and connected by way of
`/proc/self/fd/<descriptor of the directory>/agent.sock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Mapping

from orch.errors import AdapterError
from orch.store import layout

SOCKET = "agent.sock"
_POINTER = "runtime"


def host_name() -> str:
    """This host's name, as it stands in events and paths."""
    return socket.gethostname()


def runtime_directory(store: str, work_dir: str, environment: Mapping[str, str]) -> str:
    """The runtime directory for a store, made if it is not there.

    Raises `AdapterError` where it cannot be made or another user could get at it.
    """
    given = work_dir or environment.get("ORCH_WORK_DIR", "")
    base = os.path.abspath(given) if given else os.path.join(tempfile.gettempdir(), f"orch-{os.getuid()}")
    name = hashlib.sha256(os.fsencode(os.path.realpath(store))).hexdigest()[:16]
    path = os.path.join(base, layout.safe_name(host_name()), name)
    try:
        os.makedirs(base, mode=0o700, exist_ok=True)
        if not given:
            _check_private(base)
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise AdapterError(f"the work directory {base} cannot be used: {error.strerror or error}") from error
    _check_private(path)
    return path


def _check_private(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise AdapterError(f"the work directory {path} is not a directory")
    if found.st_uid != os.getuid():
        raise AdapterError(f"the work directory {path} belongs to another user: give another with --work-dir")
    if found.st_mode & 0o077:
        raise AdapterError(f"the work directory {path} is open to other users: chmod 700 it, or give another")


def agent_directory(store: str) -> str:
    """Where journal and log of this host's agent are, made if not there. Raises `AdapterError`."""
    path = os.path.join(store, layout.agent_dir(host_name()))
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise AdapterError(f"the store cannot be used: {path}: {error.strerror or error}") from error
    return path


def write_pointer(store: str, runtime: str) -> None:
    """Say where the agent lives. Raises `OSError`."""
    path = os.path.join(agent_directory(store), _POINTER)
    with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(runtime)
    os.replace(f"{path}.new", path)


def read_pointer(store: str) -> str:
    """Where the agent lives, or has lived; empty if nobody said."""
    try:
        with open(os.path.join(agent_directory(store), _POINTER), encoding="utf-8", errors="surrogateescape") as file:
            found = file.read()
    except FileNotFoundError:
        return ""
    return "" if "\0" in found else found  # no path has that: the file is damaged, and as good as none


def lock(path: str) -> int:
    """Wait for a lock, and hold it until the descriptor is closed. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def connect(directory: str) -> socket.socket | None:
    """A connection to the agent of a runtime directory; None if none listens there. Raises `OSError`."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(10)
        connection.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


def listen(directory: str) -> socket.socket:
    """The agent's listening socket, in the place of a dead one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = f"/proc/self/fd/{descriptor}/{SOCKET}"
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(128)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(descriptor)
    return listener
