"""The process of an agent that does not know yet whose agent it is to be. Light to import: it can be started early.

An interpreter takes a tenth of a second until it can be an agent. The `orch run` command starts one before it imports
what it needs itself, if the store that is probably meant seems to have no agent; whoever starts an agent takes that
one, or another. A forerunner that gets no orders sees the end of its stdin, and leaves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

LOG = "agent.log"
READY = b"ready\n"
"""What an agent says to its starter once it listens; anything else is why it does not."""

_early: Forerunner | None = None


class Forerunner:
    """One that was started, for an agent of `store`: its orders go to its stdin, what it says comes from its stdout."""

    def __init__(self, store: str) -> None:
        self.store = store
        orders, self._orders = os.pipe()
        self._said, said = os.pipe()
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "orch.agent", store],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate((orders, said, said))],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except BaseException:  # nobody else will close them, whatever went wrong
            os.close(self._orders)
            os.close(self._said)
            raise
        finally:
            os.close(orders)
            os.close(said)

    def start(self, runtime: str, log: str) -> bytes:
        """Have it be the agent that lives in `runtime` and writes to `log`; what it says. It is not ours any more."""
        try:
            with contextlib.suppress(BrokenPipeError):  # then it has said why
                os.write(self._orders, b"\0".join(map(os.fsencode, (runtime, log))))
            self._close_orders()
            said = b""
            while said != READY and (more := os.read(self._said, 65536)):
                said += more
            return said
        finally:
            self.drop()

    def drop(self) -> None:
        """Let it go: without orders, it leaves."""
        self._close_orders()
        os.close(self._said)
        with contextlib.suppress(ChildProcessError):  # a service that embeds us may have waited for all children
            os.waitpid(self._pid, 0)  # it ends as soon as it has forked the guardian

    def _close_orders(self) -> None:
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1


def start_early(store: str) -> None:
    """Start one that is probably wanted soon. What goes wrong here goes wrong again, and is told, in `take`."""
    global _early  # noqa: PLW0603 - one process has one command line
    with contextlib.suppress(OSError):
        _early = Forerunner(store)


def take(store: str) -> Forerunner:
    """The one that was started early, if it is for that store; else a new one. Raises `OSError`."""
    global _early
    early, _early = _early, None
    if early is not None and early.store == store:
        return early
    if early is not None:
        early.drop()
    return Forerunner(store)


def drop_early() -> None:
    """None is wanted after all."""
    global _early
    early, _early = _early, None
    if early is not None:
        early.drop()
