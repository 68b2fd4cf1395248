"""The processes of a worker, so that nothing of it survives whatever a batch system kills.

    front ──fork──► guardian (a session of its own) ──fork──► worker ──► attempt, templates …

The front is what the batch system knows: it gets the signals, and ends last. It passes them on through a pipe, of which
the worker sees the end if the front is killed: a batch system that knows a session or a process group only gets no
further than this. The guardian ends what the worker leaves, as that of an agent does; it adopts it (prctl(2),
PR_SET_CHILD_SUBREAPER). So does the front with what the guardian leaves, the worker included; and where both are
killed, the worker sees the end of the pipe. Light to import: the forks are made before anything else is there.

A batch system may as well send its signals to all processes of a job. So all three take no notice of what comes to
themselves, but the front.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from orch.agent.guardian import until_over
from orch.agent.linux import adopt_orphans

FAILED = 70
"""The exit code of a worker that could not run its task: EX_SOFTWARE, sysexits.h."""

WARNINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
"""What batch systems send to a job that is to end soon. Each has a manual that says which."""

IGNORED = (signal.SIGHUP,)

_OF_GRID_ENGINE = "SGE_TASK_ID"
"""A variable of its jobs. There SIGUSR1 announces that they are suspended, and go on later (submit(1), -notify)."""


def in_front(serve: Callable[[int, int], int]) -> int:
    """Run `serve` in a worker's process, and end whatever it leaves; the exit code.

    `serve` gets a descriptor from which it reads a byte for each signal, and this process's id. At the end of what can
    be read, this process is dead.
    """
    adopt_orphans()
    hear, say = os.pipe()
    os.set_blocking(say, False)
    _on_warnings(lambda number, _frame: _pass_on(say, number))
    if _OF_GRID_ENGINE in os.environ:
        signal.signal(signal.SIGUSR1, _nothing)
    own = os.getpid()
    pid = os.fork()
    if pid == 0:
        _take_no_notice()
        os.close(say)
        os.setsid()
        leave(lambda: _guard(lambda: serve(hear, own), hear))
    os.close(hear)
    return _concluded(until_over(pid), "guardian")


def _guard(serve: Callable[[], int], hear: int) -> int:
    adopt_orphans()
    pid = os.fork()
    if pid == 0:
        adopt_orphans()
        leave(serve)
    os.close(hear)
    return _concluded(until_over(pid), "worker")


def leave(run: Callable[[], int]) -> NoReturn:
    """End this process with what `run` returns, at once: to take an interpreter to pieces would take a while."""
    code = FAILED
    try:
        code = run()
    except Exception:  # noqa: BLE001 - a mistake of ours: it is told in the log, and not taken for the job's own
        import traceback  # seldom needed, and not light

        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def _concluded(code: int, what: str) -> int:
    """What to exit with, once a process has ended with `code`."""
    if code >= 0:
        return code
    sys.stderr.write(f"orch: the {what} was killed by signal {-code}\n")
    return FAILED


def _on_warnings(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in WARNINGS:
        signal.signal(number, handler)
    for number in IGNORED:
        signal.signal(number, _nothing)


def _take_no_notice() -> None:
    """With handlers that do nothing: what is executed here has the default ones again (execve(2))."""
    _on_warnings(_nothing)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return


def _pass_on(say: int, number: int) -> None:
    try:
        os.write(say, bytes([number]))
    except OSError:  # it is over, or so many came that one more says nothing
        return
