"""The planner's process, and its pipes. Light to import, so that it can be started first of all.

An interpreter takes a tenth of a second to be ready to plan. The `orch run` command starts the planner before it
imports what it needs itself (`start_early`); whoever plans takes that one, or starts another. A planner whose parent
is gone sees the end of its stdin and leaves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence

COMMAND = (sys.executable, "-P", "-m", "orch.work.planner")
_CHUNK = 1024 * 1024
_INTERPRETER = ("PYTHON", "LD_")
"""How variables begin that an interpreter reads when it starts, and never again."""

_early: PlannerProcess | None = None


class Process:
    """A running process: its id, and its exit code once it has one. `ends` are its stdin, stdout and stderr."""

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str], ends: Sequence[int]) -> None:
        self.exit_code: int | None = None
        dups = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends)]
        # A session of its own: Ctrl-C is the leader's to handle.
        self.pid = os.posix_spawn(command[0], command, environment, file_actions=dups, setsid=True)
        self._pidfd = os.pidfd_open(self.pid)

    async def wait(self) -> int:
        """Its exit code, negative for a signal."""
        import anyio

        while self.exit_code is None:
            held = os.dup(self._pidfd)  # each of several that wait needs one of its own
            try:
                await anyio.wait_readable(held)
            finally:
                os.close(held)
            self._reap()
        return self.exit_code

    def _reap(self) -> None:
        if self.exit_code is not None:
            return
        with contextlib.suppress(ChildProcessError):  # a service that embeds us may have waited for all children
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return
            self.exit_code = os.waitstatus_to_exitcode(status)
            return
        self.exit_code = 0

    def kill(self) -> None:
        """End it, and what it has started in its session's first process group."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def close_pipes(self) -> None:
        """Let go of everything. Again: does nothing."""
        self._close("_pidfd")

    def _close(self, *names: str) -> None:
        for name in names:
            descriptor = getattr(self, name, -1)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)


class PlannerProcess(Process):
    """A running planner, and this side's ends of its pipes, which never block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        child_in, self._in = os.pipe()
        self._out, child_out = os.pipe()
        self._err, child_err = os.pipe()
        try:
            super().__init__(COMMAND, self.environment, (child_in, child_out, child_err))
        except BaseException:  # nobody else will close them, whatever went wrong
            self.close_pipes()
            raise
        finally:
            for end in (child_in, child_out, child_err):
                os.close(end)
        for end in (self._in, self._out, self._err):
            os.set_blocking(end, False)

    async def send(self, data: bytes) -> None:
        """Write all of it to the planner's stdin. Raises `BrokenPipeError` if it is gone."""
        await write(self._in, data)

    async def receive(self, count: int) -> bytes:
        """Up to `count` bytes of its stdout, empty at the end."""
        return await read(self._out, count)

    async def receive_errors(self) -> bytes:
        """Some of its stderr, empty at the end."""
        return await read(self._err, 65536)

    def close_stdin(self) -> None:
        """Ask it to leave."""
        self._close("_in")

    def close_pipes(self) -> None:
        """Let go of everything. Again: does nothing."""
        self._close("_in", "_out", "_err", "_pidfd")


async def write(descriptor: int, data: bytes) -> None:
    """Write all of it, as there is room. Raises `BrokenPipeError` if nobody can read it any more."""
    import anyio

    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await anyio.wait_writable(descriptor)


async def read(descriptor: int, count: int) -> bytes:
    """Up to `count` bytes, empty at the end."""
    import anyio

    while True:
        try:
            return os.read(descriptor, min(count, _CHUNK))
        except BlockingIOError:
            await anyio.wait_readable(descriptor)


def start_early() -> None:
    """Start a planner that is probably wanted soon. What goes wrong here goes wrong again, and is told, in `take`."""
    global _early  # noqa: PLW0603 - one process has one command line
    with contextlib.suppress(OSError):
        _early = PlannerProcess(os.environ)


def is_early() -> bool:
    """Is there a planner that was started early, and not taken?"""
    return _early is not None


def take(environment: Mapping[str, str]) -> PlannerProcess:
    """The planner that was started early, if an interpreter with `environment` would be like it; else a new one."""
    global _early
    early, _early = _early, None
    if early is None:
        return PlannerProcess(environment)
    if _interpreter(early.environment) == _interpreter(environment):
        return early
    early.kill()
    early.close_pipes()
    return PlannerProcess(environment)


def _interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_INTERPRETER)}
