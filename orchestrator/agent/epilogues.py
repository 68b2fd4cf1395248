"""What attempts have deferred to their end (see `orch.work.deferred`): done in a process of its own for each attempt.

That runs once nothing of the attempt does, and before anybody hears of its end. What an earlier agent has not got to is
done first of all, one after the other, with this agent's environment: that of the run is kept in memory only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections import deque
from pathlib import Path

from orch.agent import processes
from orch.agent.loop import Loop
from orch.agent.model import Task
from orch.agent.patience import PATIENCE
from orch.agent.ports import Timer
from orch.agent.tags import NAME, tag_of
from orch.work import deferred

MOST_TRIES = 3
"""How often it is begun anew when its process is killed from outside."""


@dataclasses.dataclass(eq=False, slots=True)
class Epilogue:
    """One file of deferred functions, and the process that makes them. `file`: where that one's output goes."""

    path: Path
    key: str
    environment: dict[str, str]
    file: int
    timer: Timer | None = None
    tries: int = 0
    too_long: bool = False


class Epilogues:
    """All that are being made. `agent`: the first part of the marks, `directory`: where the files are."""

    def __init__(self, loop: Loop, agent: str, store: str, directory: str) -> None:
        self._loop = loop
        self._agent = agent
        self._store = store
        self._directory = directory
        self._left: deque[Epilogue] = deque()
        self._keys: set[str] = set()
        self.pids: dict[int, Epilogue] = {}

    @property
    def catching_up(self) -> bool:
        """Is something left of what an earlier agent has not got to?"""
        return bool(self._left)

    def recover(self, *, ours: bool) -> None:
        """Begin with what an earlier agent has left. In a copy that is not `ours`: the original's agent does it."""
        for path in deferred.pending(self._directory):
            if not ours:
                path.unlink(missing_ok=True)
                continue
            self._left.append(Epilogue(path, f"deferred.{path.name}", dict(os.environ), 2))
        self._next_left()

    def wanted(self, task: Task) -> bool:
        """Has the attempt deferred anything?"""
        return deferred.file_of(self._directory, task.key).exists()

    def begin(self, task: Task) -> bool:
        """Do what the attempt has deferred; the output goes to its stderr. False if that cannot be."""
        capture = task.epilogue or task.capture
        assert capture is not None
        path = deferred.file_of(self._directory, task.key)
        self._keys.add(task.key)
        self._start(Epilogue(path, task.key, task.run.environment, capture.err.file))
        return self.holds(task.key)

    def holds(self, key: str) -> bool:
        """Is it being done?"""
        return key in self._keys

    def child_ended(self, pid: int, status: int) -> bool:
        """Hear of the end of a child of the agent; False if it is none of ours."""
        found = self.pids.pop(pid, None)
        if found is None:
            return False
        if found.timer is not None:
            found.timer.cancel()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and not found.too_long
        if killed and found.tries < MOST_TRIES:
            self._start(found)
        else:
            self._done(found)
        return True

    def _start(self, epilogue: Epilogue) -> None:
        epilogue.tries += 1
        try:
            pid = self._spawn(epilogue)
        except OSError as error:  # no process can be made: the next agent will find the file
            _say(epilogue.file, f"deferred functions wait for another agent: {error}")
            self._over(epilogue)
            return
        self.pids[pid] = epilogue
        epilogue.timer = self._loop.after(PATIENCE, lambda: self._end(pid, epilogue))

    def _spawn(self, epilogue: Epilogue) -> int:
        argv = deferred.command(epilogue.path, self._store)
        return os.posix_spawn(
            argv[0],
            argv,
            {**epilogue.environment, NAME: tag_of(self._agent, epilogue.key)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, epilogue.file, 1),
                (os.POSIX_SPAWN_DUP2, epilogue.file, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD],
        )

    def _end(self, pid: int, epilogue: Epilogue) -> None:
        epilogue.too_long = True
        _say(epilogue.file, f"deferred functions were ended after {PATIENCE:g} s")
        processes.kill_child(pid)

    def _done(self, epilogue: Epilogue) -> None:
        with contextlib.suppress(OSError):  # a full disk, say: it is done once more by the next agent
            epilogue.path.unlink()
        self._over(epilogue)

    def _over(self, epilogue: Epilogue) -> None:
        self._keys.discard(epilogue.key)
        if self._left and self._left[0] is epilogue:
            self._left.popleft()
            self._next_left()

    def _next_left(self) -> None:
        if self._left:
            self._start(self._left[0])


def _say(file: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(file, f"orch: {text}\n".encode("utf-8", "backslashreplace"))
