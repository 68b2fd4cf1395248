"""How a program speaks to a cluster: submit, look, recall, cancel. For faces, which have to start fast: imports little.

Every call can raise `Unreachable` (the cluster is down, or lost the answer) and `Nonsense` (what it said makes no
sense; the launcher prints it, and exits with 0), and `submit` can raise `Rejected`. Times are seconds since 1970.
"""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

SOCKET = "socket"

_LONGEST = 1 << 16


class Unreachable(Exception):
    """The cluster does not answer, or its answer was lost."""


class Rejected(Exception):
    """It does not take a submission. The text says why."""


class Nonsense(Exception):
    """It answered with what nobody understands: the text."""


class Row:
    """One task, as the cluster sees it.

    `job`       the number of its submission
    `index`     its number in the array, 0 if the submission is none
    `state`     queued, held, running, ending, over; or what a fault says
    `why`       of one that waits: Priority, Resources, Held, Nodes
    `reason`    of one that is over: exit, signal, memory, walltime, cancelled, node, preempted
    `code`, `signal`: how its process ended; None and 0 if there was none
    `restarts`  how often it was started again
    `extra`     what the face had kept with the submission
    """

    job: int
    index: int
    size: int
    name: str
    label: str
    state: str
    why: str
    host: str
    pid: int
    cores: int
    memory: int
    walltime: float
    priority: int
    queue: str
    script: str
    out: str
    err: str
    submitted: float
    started: float
    ended: float
    reason: str
    code: int | None
    signal: int
    used: int
    restarts: int
    extra: dict[str, Any]

    def __init__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)

    def __repr__(self) -> str:
        return f"Row({self.__dict__})"


class Client:
    """A cluster, by its directory. `control`: not subject to faults."""

    def __init__(self, directory: str, *, control: bool = False) -> None:
        self.directory = directory
        self._control = control

    def submit(  # noqa: PLR0913 - what a batch system can be asked for
        self,
        argv: Sequence[str],
        *,
        name: str = "",
        label: str = "",
        tasks: Sequence[int] = (0,),
        env: dict[str, str] | None = None,
        variables: dict[str, str] | None = None,
        cwd: str = "/",
        stdin: str = "",
        out: str = "",
        err: str = "",
        cores: int = 1,
        memory: int = 0,
        walltime: float = 0.0,
        grace: float = 1.0,
        first: str = "TERM",
        requeue: bool = False,
        hold: bool = False,
        priority: int = 0,
        queue: str = "",
        extra: dict[str, Any] | None = None,
    ) -> int:
        """Hand over a program, or an array of `tasks` numbered from 1 ((0,): no array). The submission's number.

        `env`        the whole environment of the tasks; None: that of a login, and nothing of ours
        `variables`  more of them, in which {job}, {index} and {size} are replaced
        `out`, `err` files, with the same in their names; `err` empty: both go to `out`; `out` empty: to nowhere
        `stdin`      a file
        `memory`     bytes, `walltime` seconds: more, and the task is killed; 0: as much as it wants
        `grace`      seconds between the signal `first` ("TERM"; empty: none) and KILL, when a task is to end
        `requeue`    a task that loses its node, or its place, is started again
        `extra`      is kept, and stands in each row
        """
        fields = {name: value for name, value in locals().items() if name != "self"}
        fields |= {"argv": list(argv), "tasks": list(tasks), "variables": variables or {}, "extra": extra or {}}
        answer = self.call("submit", **{**fields, "env": login_environment() if env is None else env})
        return int(answer["job"])

    def jobs(self, jobs: Iterable[int] | None = None) -> list[Row]:
        """What is queued or running, and what is over since less than `linger` seconds. `jobs`: only these."""
        return self._rows("jobs", jobs)

    def history(self, jobs: Iterable[int] | None = None, since: float = 0.0) -> list[Row]:
        """What is over, once `history_lag` seconds have passed since; submitted after `since`."""
        return [row for row in self._rows("history", jobs) if row.submitted >= since]

    def _rows(self, op: str, jobs: Iterable[int] | None) -> list[Row]:
        answer = self.call(op, jobs=None if jobs is None else list(jobs))
        return [Row(fields) for fields in answer["rows"]]

    def cancel(self, tasks: Sequence[tuple[int, int | None]], *, force: bool = False) -> list[tuple[int, int | None]]:
        """End tasks, by submission and index (None: all of it). Those that the cluster does not know, or are over.

        `force`: without a first signal.
        """
        answer = self.call("cancel", tasks=[list(each) for each in tasks], force=force)
        return [(job, index) for job, index in answer["unknown"]]

    def hold(self, job: int, index: int | None = None) -> None:
        """Have a queued task wait."""
        self.call("hold", tasks=[[job, index]])

    def release(self, job: int, index: int | None = None) -> None:
        """Have a held task wait no more."""
        self.call("release", tasks=[[job, index]])

    def nodes(self) -> list[dict[str, Any]]:
        """Each with `name`, `cores`, `free`, `memory` (bytes) and `up`."""
        found: list[dict[str, Any]] = self.call("nodes")["nodes"]
        return found

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """One question, and its answer."""
        question = json.dumps({"op": op, "control": self._control, **fields}) + "\n"
        try:
            line = _ask(self.directory, question.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise Unreachable(str(error)) from error
        if not line.endswith(b"\n"):
            raise Unreachable("the connection was closed")
        answer: dict[str, Any] = json.loads(line)
        problem = answer.get("error")
        if problem is not None:
            raise {"rejected": Rejected, "nonsense": Nonsense}.get(problem, Unreachable)(answer.get("text", problem))
        return answer


def login_environment() -> dict[str, str]:
    """What a batch system gives a job of its own accord: next to nothing."""
    home = os.path.expanduser("~")
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "USER": os.path.basename(home), "SHELL": "/bin/sh"}


def _ask(directory: str, question: bytes) -> bytes:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            # by way of the folder: the path of a Unix socket ends at 107 bytes (unix(7))
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            connection.sendall(question)
            parts = []
            while data := connection.recv(_LONGEST):
                parts.append(data)
            return b"".join(parts)
    finally:
        os.close(folder)
