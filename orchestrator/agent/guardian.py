"""The agent's parent: ends everything that the agent leaves if it dies.

It adopts what is orphaned by the agent's end (prctl(2), PR_SET_CHILD_SUBREAPER), and so sees all of it, in sessions of
their own or not, with a mark or without. It is a fork of the agent's process from before that has imported anything.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from orch.agent.linux import adopt_orphans
from orch.agent.processes import kill_child, own_children


def guarded(serve: Callable[[Callable[[bytes], None]], int]) -> int:
    """Run `serve` in a child, and end whatever it leaves. The exit code.

    `serve` gets a function by which it says what its log is: that is where this process's output goes then.
    """
    adopt_orphans()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hear, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hear)
        return serve(lambda log: _say(say, log))
    signal.signal(signal.SIGTERM, lambda *_: _pass_on(pid))
    os.close(say)
    with contextlib.suppress(OSError):  # the agent has opened it, and says so if that fails
        write_to(os.fsdecode(os.read(hear, 65536)))
    let_go_of_everything()
    return until_over(pid)


def until_over(pid: int) -> int:
    """Wait for a child, and end whatever it leaves to us. Its exit code; negative: the signal that killed it."""
    code = 1
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            _end_the_rest()


def _say(descriptor: int, text: bytes) -> None:
    os.write(descriptor, text)
    os.close(descriptor)


def write_to(path: str, to: tuple[int, ...] = (1, 2)) -> None:
    """Have what is written to these descriptors appended to a file; empty: to none. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if path else os.O_RDWR
    opened = os.open(path or os.devnull, flags | os.O_CLOEXEC, 0o600)
    for descriptor in to:
        os.dup2(opened, descriptor)
    os.close(opened)


def _pass_on(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def let_go_of_everything() -> None:
    """Close all descriptors but the first three: a lock or a pipe must not live on here."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _end_the_rest() -> None:
    """Kill our children until there are none: what they leave becomes ours in turn."""
    while children := own_children():
        for child in children:
            kill_child(child)
        for child in children:
            os.waitpid(child, 0)
