"""Programs without Python: started by the agent itself."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal

import msgspec

from orch.agent.captures import Capture
from orch.agent.tags import NAME, tag_of
from orch.attempt import Attempt, CommandSpec
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore
from orch.store.private import make_private

_spec = msgspec.json.Decoder(CommandSpec).decode
_DEFAULTS = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD]
_NOTHING = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)


class CannotStart(Exception):
    """The program could not be started. `exit_code` as a shell would have it: 127 not found, 126 not executable."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Commands:
    """Starts commands of one agent."""

    def __init__(self, agent: str, store: FileStore) -> None:
        self._agent = agent
        self._store = store
        self._found: dict[tuple[str, str], str] = {}

    def start(self, attempt: Attempt, environment: dict[str, str], scratch: str, capture: Capture) -> int:
        """Start the program in its own session and its scratch directory, which is empty; its pid.

        Raises `CannotStart`, and `OSError` if it is the agent that cannot (no processes left, disk full …).
        """
        spec = _spec(blob_bytes(self._store, attempt.body, verify=True))
        given = {**environment, **spec.env, **attempt.env, "TMPDIR": scratch, NAME: tag_of(self._agent, attempt.key)}
        directory = _enter(scratch, spec.cwd)
        try:
            stdin = _memory_file(spec.stdin) if spec.stdin else -1
            try:
                return self._begin(spec.argv, given, stdin, capture)
            finally:
                if stdin >= 0:
                    os.close(stdin)
        except OSError as error:
            raise _explained(spec.argv[0], directory, error) from error
        except ValueError as error:  # a NUL in an argument, an empty one …
            raise CannotStart(f"{spec.argv[0]!r} cannot be started: {error}", 126) from error
        finally:
            os.chdir("/")

    def _begin(self, argv: list[str], given: dict[str, str], stdin: int, capture: Capture) -> int:
        path = given.get("PATH", os.defpath)
        found = self._found.get((argv[0], path))
        if found is not None:
            with contextlib.suppress(OSError):  # then it is looked for once more
                return _spawn(found, argv, given, stdin, capture)
        return _spawn(self._program(argv[0], path), argv, given, stdin, capture)

    def _program(self, name: str, path: str) -> str:
        """Where the program is, as the shell would find it."""
        if "/" in name:
            return name
        found = shutil.which(name, path=path)
        if found is None:
            raise CannotStart(f"{name}: no such program in PATH ({path.count(os.pathsep) + 1} directories)", 127)
        if os.path.isabs(found):
            self._found[name, path] = found
        return found


def _spawn(program: str, argv: list[str], given: dict[str, str], stdin: int, capture: Capture) -> int:
    return os.posix_spawn(
        program,
        argv,
        given,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin, 0) if stdin >= 0 else _NOTHING,
            (os.POSIX_SPAWN_DUP2, capture.out.file, 1),
            (os.POSIX_SPAWN_DUP2, capture.err.file, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=_DEFAULTS,
    )


def _enter(scratch: str, below: str) -> str:
    """Go to where the command runs: the directory `below` its scratch directory, made if need be."""
    directory = os.path.normpath(os.path.join(scratch, below)) if below else scratch
    if below:
        make_private(directory)
    os.chdir(directory)
    return directory


def _memory_file(data: bytes) -> int:
    file = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.lseek(file, 0, os.SEEK_SET)
    except BaseException:  # nobody else will close it, whatever went wrong
        os.close(file)
        raise
    return file


def _explained(program: str, directory: str, error: OSError) -> Exception:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return CannotStart(f"{program}: no such program (seen from {directory}), or its interpreter is missing", 127)
    if error.errno in {errno.EACCES, errno.ENOEXEC, errno.E2BIG, errno.EISDIR, errno.ELOOP, errno.ETXTBSY}:
        return CannotStart(f"{program} cannot be started: {error.strerror}", 126)
    return error
