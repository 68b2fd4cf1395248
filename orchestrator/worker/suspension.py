"""What a batch system suspends is suspended as a whole: the attempt stops with the front, and goes on with it.

Batch systems that know a process group only stop no more than the front (SIGSTOP, which nobody hears of). Those that
stop all processes of a job do no harm here.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

from orch.agent.loop import Loop
from orch.agent.processes import is_stopped

LOOK = 1.0
"""Seconds between looks."""


class Suspension:
    """Looks at the process `front`, and does the same to those that `pids` names."""

    def __init__(self, loop: Loop, front: int, pids: Callable[[], Iterable[int]]) -> None:
        self._loop = loop
        self._front = front
        self._pids = pids
        self._on = False
        loop.after(LOOK, self._look)

    def _look(self) -> None:
        was, self._on = self._on, is_stopped(self._front)
        if self._on or was:
            for pid in self._pids():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP if self._on else signal.SIGCONT)
        self._loop.after(LOOK, self._look)
