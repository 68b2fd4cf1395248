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
from collections.abc import Mapping

COMMAND = (sys.executable, "-P", "-m", "orch.work.planner")
_CHUNK = 1024 * 1024
_INTERPRETER = ("PYTHON", "LD_")
"""How variables begin that an interpreter reads when it starts, and never again."""

_early: PlannerProcess | None = None


class PlannerProcess:
    """A running planner: its process id, and this side's ends of its pipes, which never block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.exit_code: int | None = None
        child_in, self._in = os.pipe()
        self._out, child_out = os.pipe()
        self._err, child_err = os.pipe()
        try:
            dups = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate((child_in, child_out, child_err))]
            # A session of its own: Ctrl-C is the leader's to handle.
            self.pid = os.posix_spawn(sys.executable, COMMAND, self.environment, file_actions=dups, setsid=True)
        except BaseException:  # nobody else will close them, whatever went wrong
            self.close_pipes()
            raise
        finally:
            for end in (child_in, child_out, child_err):
                os.close(end)
        for end in (self._in, self._out, self._err):
            os.set_blocking(end, False)
        self._pidfd = os.pidfd_open(self.pid)

    async def send(self, data: bytes) -> None:
        """Write all of it to the planner's stdin. Raises `BrokenPipeError` if it is gone."""
        import anyio

        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._in)

    async def receive(self, count: int) -> bytes:
        """Up to `count` bytes of its stdout, empty at the end."""
        return await _read(self._out, min(count, _CHUNK))

    async def receive_errors(self) -> bytes:
        """Some of its stderr, empty at the end."""
        return await _read(self._err, 65536)

    async def wait(self) -> int:
        """Its exit code, negative for a signal."""
        import anyio

        while self.exit_code is None:
            await anyio.wait_readable(self._pidfd)
            self._reap()
        return self.exit_code

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # a service that embeds us may have waited for all children
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return
            self.exit_code = os.waitstatus_to_exitcode(status)
            return
        self.exit_code = 0

    def close_stdin(self) -> None:
        """Ask it to leave."""
        if self._in >= 0:
            os.close(self._in)
            self._in = -1

    def kill(self) -> None:
        """End it, and what it has started in its session's first process group."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def close_pipes(self) -> None:
        """Let go of everything. Again: does nothing."""
        self.close_stdin()
        for name in ("_out", "_err", "_pidfd"):
            descriptor = getattr(self, name, -1)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)


async def _read(descriptor: int, count: int) -> bytes:
    import anyio

    while True:
        try:
            return os.read(descriptor, count)
        except BlockingIOError:
            await anyio.wait_readable(descriptor)


def start_early() -> None:
    """Start a planner that is probably wanted soon. What goes wrong here goes wrong again, and is told, in `take`."""
    global _early  # noqa: PLW0603 - one process has one command line
    with contextlib.suppress(OSError):
        _early = PlannerProcess(os.environ)


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
