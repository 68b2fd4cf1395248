"""Where an agent has its runtime directory, its journal and its socket.

    <work_dir>/<host>/<hash of store>/     the runtime directory: 0700, this user's own
        agent.sock
        scratch/                           scratch directories of attempts
        spare/                             empty ones, to be used again
        trash/                             scratch directories on their way out
        kept/                              those that `clean_scratch` kept: see `orch.agent.kept`
    <store>/agents/<host>/
        journal, agent.log
        deferred/                          what attempts have deferred to their end, a file each
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
import struct
import tempfile
from collections.abc import Callable, Mapping

from orch.errors import AdapterError
from orch.store import layout
from orch.store.private import make_private, open_private

SOCKET = "agent.sock"
_POINTER = "runtime"
_TRIES = 100


def host_name() -> str:
    """This host's name, as it stands in events and paths."""
    return socket.gethostname()


def runtime_directory(store: str, work_dir: str, environment: Mapping[str, str], kind: str = "") -> str:
    """The runtime directory for a store, made if it is not there. `kind`: of whom, if not of the agent.

    Raises `AdapterError` where it cannot be made or another user could get at it.
    """
    given = work_dir or environment.get("ORCH_WORK_DIR", "")
    base = os.path.abspath(given) if given else os.path.join(tempfile.gettempdir(), f"orch-{os.getuid()}")
    name = hashlib.sha256(os.fsencode(os.path.realpath(store))).hexdigest()[:16]
    path = os.path.join(base, layout.safe_name(host_name()), name + kind)
    for tries_left in reversed(range(_TRIES)):
        try:
            _make(base, path, _check_guarded if given else _check_private)
            break
        except OSError as error:
            # who leaves removes what is empty: another worker, just now
            if not isinstance(error, FileNotFoundError) or not tries_left:
                raise AdapterError(f"the work directory {base} cannot be used: {error.strerror or error}") from error
    return path


def _make(base: str, path: str, check_base: Callable[[str], None]) -> None:
    make_private(path)
    check_base(base)
    _tighten(os.path.dirname(path))
    _check_private(path)


def _check_guarded(path: str) -> None:
    """Nobody else can move away what is in there, but its owner, and the group that it was opened to on purpose."""
    if os.stat(path).st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        raise AdapterError(
            f"the work directory {path} can be written to by all users: chmod o-w it (or +t, as /tmp has it), "
            f"or give another"
        )


def _tighten(path: str) -> None:
    """This user's own, and made private if it is not: nobody else has a use for it."""
    if os.lstat(path).st_uid == os.getuid() and not os.path.islink(path):
        os.chmod(path, 0o700)
    _check_private(path)


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
        make_private(path)
    except OSError as error:
        raise AdapterError(f"the store cannot be used: {path}: {error.strerror or error}") from error
    return path


def deferred_directory(store: str, host: str) -> str:
    """Where attempts on a host leave what is to be done after them; it may not be there."""
    return os.path.join(store, layout.agent_dir(host), "deferred")


def write_pointer(store: str, runtime: str) -> None:
    """Say where the agent of `store` lives. Raises `OSError`."""
    path = os.path.join(agent_directory(store), _POINTER)
    with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape", opener=open_private) as file:
        file.write(f"{runtime}\0{store}")
    os.replace(f"{path}.new", path)


def read_pointer(store: str) -> str:
    """Where the agent lives, or has lived; empty if nobody said, or not of this store but of what it is a copy of."""
    runtime, _, named = _pointer(store).partition("\0")
    return runtime if named == store else ""


def is_copy(store: str) -> bool:
    """Was the store copied or moved here since it last had an agent? Then what its journal says is another's."""
    _, _, named = _pointer(store).partition("\0")
    return named not in ("", store)


def has_original(store: str) -> bool:
    """Is it a copy, and what it was copied from still there? Then what is to be done for that is not done here."""
    _, _, named = _pointer(store).partition("\0")
    return is_copy(store) and os.path.exists(named)


def _pointer(store: str) -> str:
    try:
        with open(os.path.join(agent_directory(store), _POINTER), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def lock(path: str) -> int:
    """Wait for a lock, and hold it until the descriptor is closed. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:  # also the alarm that bounds the waiting
        os.close(descriptor)
        raise
    return descriptor


def connect(directory: str) -> socket.socket | None:
    """A connection to the agent of a runtime directory; None if none of this user's listens there.

    Who gets it gets the environment of a run. The name of the directory is old, perhaps, and another user may have
    made one of that name since. Raises `OSError`, and `AdapterError` where the directory is open to others.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # the latter for a symbolic link too (open(2))
        return None
    except PermissionError:  # it was this user's own
        return None
    try:
        return _connect(directory, descriptor)
    finally:
        os.close(descriptor)


def _connect(directory: str, descriptor: int) -> socket.socket | None:
    if os.fstat(descriptor).st_uid != os.getuid():
        return None
    _check_private(directory)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(10)
        connection.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
        if peer_user(connection) == os.getuid():
            return connection
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    except BaseException:  # nobody else will close it, whatever went wrong
        connection.close()
        raise
    connection.close()
    return None


def peer_user(connection: socket.socket) -> int:
    """The user id at the other end of a Unix socket, as the kernel knows it (unix(7), SO_PEERCRED)."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", peer)[1]
    return user


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
    except BaseException:  # nobody else will close it, whatever went wrong
        listener.close()
        raise
    finally:
        os.close(descriptor)
    return listener
