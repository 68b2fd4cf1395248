"""The cluster's mind: what waits, what runs where, what is to be ended, what is remembered, and what goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

from orch.testing.cluster.tasks import ENDING, HELD, OVER, QUEUED, RUNNING, Node, Task, first_signal

MEMORY_INTERVAL = 0.1
"""Seconds between two looks at what tasks with a memory limit use."""

NEVER = float("inf")


class Settings:
    """What a cluster is, and the faults that last. Tests change them while it runs (`Cluster.set`).

    `linger`       seconds for which a task that is over stands in the queue
    `history`      are there records of what is over? `history_lag`: seconds until a record is there
    `paused`       nothing is started
    `down`         no program gets an answer
    `slow`         seconds that each answer takes
    `nonsense`     what each answer is, if not empty
    `lose_next`    the answer of the next submission is lost: "fail" or "hang"; the submission counts
    `refuse_next`  why the next submission is refused
    `twice`        each row comes twice
    """

    linger: float = 0.0
    history: bool = True
    history_lag: float = 0.0
    paused: bool = False
    down: bool = False
    slow: float = 0.0
    nonsense: str = ""
    lose_next: str = ""
    refuse_next: str = ""
    twice: bool = False

    def change(self, changes: dict[str, Any]) -> None:
        """Raises `KeyError` for one that there is not."""
        for name, value in changes.items():
            if name not in Settings.__annotations__:
                raise KeyError(f"there is no setting {name}")
            setattr(self, name, value)


class Scheduler:
    """Tasks in the order of their numbers, those of a higher priority first; who fits goes before who waits."""

    def __init__(self, nodes: list[Node], first: int = 1) -> None:
        self.settings = Settings()
        self.nodes = nodes
        self.tasks: list[Task] = []  # all but those that were forgotten
        self._jobs = first - 1
        self._by_pid: dict[int, Task] = {}
        self._live: list[Task] = []
        self._look_at_memory = 0.0

    # What programs ask for ----------------------------------------------------------------------------------------

    def submit(self, order: dict[str, Any], now: float) -> int:
        """Take a submission; its number."""
        self._jobs += 1
        state, why = (HELD, "Held") if order["hold"] else (QUEUED, "Priority")
        self.tasks += [Task(self._jobs, index, order, now, state, why) for index in order["tasks"]]
        return self._jobs

    def jobs(self, now: float) -> list[Task]:
        """What stands in the queue."""
        return [task for task in self.tasks if task.state != OVER or now - task.ended < self.settings.linger]

    def history(self, now: float) -> list[Task]:
        """What has a record."""
        if not self.settings.history:
            return []
        lag = self.settings.history_lag
        return [task for task in self.tasks if task.state == OVER and now - task.ended >= lag]

    def select(self, wanted: Iterable[tuple[int, int | None]]) -> Iterator[tuple[tuple[int, int | None], list[Task]]]:
        """For each submission and index (None: all of it) the tasks."""
        for job, index in wanted:
            yield (job, index), [task for task in self.tasks if task.job == job and index in (None, task.index)]

    def cancel(self, task: Task, now: float, *, force: bool = False, reason: str = "cancelled") -> None:
        """End a task that is not over."""
        if task.state in (QUEUED, HELD):
            self._over(task, reason, now)
        elif task.live:
            self.end(task, reason, now, force=force)

    def hold(self, task: Task) -> None:
        """Have it wait."""
        if task.state == QUEUED:
            task.state, task.why = HELD, "Held"

    def release(self, task: Task) -> None:
        """Have it wait no more."""
        if task.state == HELD:
            task.state, task.why = QUEUED, "Priority"

    # What goes wrong ----------------------------------------------------------------------------------------------

    def forget(self, task: Task) -> None:
        """Know nothing of it any more. What runs goes on; what waits will never run."""
        task.forgotten = True
        self.tasks.remove(task)

    def lose_node(self, node: Node, now: float) -> None:
        """A node is gone, and all that ran there."""
        node.up = False
        for task in [each for each in self._live if each.node is node]:
            task.again = task.order["requeue"]
            self.end(task, "node", now, force=True)

    def preempt(self, task: Task, now: float) -> None:
        """Take its place away."""
        if task.live:
            task.again = task.order["requeue"]
            self.end(task, "preempted", now)

    def start_copy(self, task: Task) -> None:
        """Start it a second time, beside what runs."""
        pid = task.spawn()
        task.extra_pids.append(pid)
        self._by_pid[pid] = task

    # Starting and ending ------------------------------------------------------------------------------------------

    def end(self, task: Task, reason: str, now: float, *, force: bool = False) -> None:
        """Kill a task that runs, with a warning if it asked for one."""
        if task.ending and not force:
            return
        number = 0 if force else first_signal(task.order["first"])
        task.state, task.ending = ENDING, task.ending or reason
        task.kill_at = now + task.order["grace"] if number else now
        task.send(number or signal.SIGKILL)

    def step(self, now: float) -> float:
        """Start what can be started, end what has to be; seconds from now until something else is due."""
        self._watch(now)
        if not self.settings.paused:
            self._start(now)
        due = [task.kill_at for task in self._live if task.state == ENDING]
        due += [task.started + task.order["walltime"] for task in self._live if self._is_limited(task, "walltime")]
        if any(self._is_limited(task, "memory") for task in self._live):
            due.append(self._look_at_memory)
        return max(0.0, min(due, default=NEVER) - now)

    @staticmethod
    def _is_limited(task: Task, name: str) -> bool:
        return bool(task.state == RUNNING and task.order[name])

    def _watch(self, now: float) -> None:
        look = now >= self._look_at_memory
        if look:
            self._look_at_memory = now + MEMORY_INTERVAL
        for task in self._live:
            if task.state == ENDING and now >= task.kill_at:
                task.kill_at = now + 1.0  # again, if that was not all
                task.send(signal.SIGKILL)
            elif self._is_limited(task, "walltime") and now >= task.started + task.order["walltime"]:
                self.end(task, "walltime", now)
            elif look and self._is_limited(task, "memory"):
                task.used = max(task.used, task.memory())
                if task.used > task.order["memory"]:
                    self.end(task, "memory", now, force=True)

    def _start(self, now: float) -> None:
        waiting = [task for task in self.tasks if task.state == QUEUED]
        up = [node for node in self.nodes if node.up]
        for task in waiting:
            task.why = "Priority" if up else "Nodes"
        for task in sorted(waiting, key=lambda each: -each.order["priority"]):
            if not any(self.free(node) for node in up):
                return
            node = next((each for each in up if self.free(each) >= task.order["cores"]), None)
            if node is None:
                task.why = "Resources"
            else:
                self._begin(task, node, now)

    def _begin(self, task: Task, node: Node, now: float) -> None:
        task.state, task.node, task.why, task.started = RUNNING, node, "", now
        self._live.append(task)
        try:
            task.pid = task.spawn()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a submission, the others go on
            task.why = str(error)
            task.code = 127
            self._over(task, "exit", now)
        else:
            self._by_pid[task.pid] = task

    def free(self, node: Node) -> int:
        """Cores of a node that nothing uses."""
        return node.cores - sum(int(task.order["cores"]) for task in self._live if task.node is node)

    def exited(self, pid: int, status: int, now: float) -> None:
        """A child of ours has ended."""
        task = self._by_pid.pop(pid, None)
        if task is None:
            return
        if pid != task.pid:  # a copy
            task.extra_pids.remove(pid)
            return
        code = os.waitstatus_to_exitcode(status)
        task.code, task.signal = (None, -code) if code < 0 else (code, 0)
        task.pid = 0
        if not task.extra_pids:
            task.send(signal.SIGKILL)  # what it has left
        self._over(task, task.ending or ("signal" if code < 0 else "exit"), now)

    def _over(self, task: Task, reason: str, now: float) -> None:
        if task in self._live:
            self._live.remove(task)
        if task.again:
            task.again, task.ending, task.state, task.why = False, "", QUEUED, "Priority"
            task.restarts += 1
            task.node = None
            return
        task.state, task.reason, task.ended = OVER, reason, now

    def first_processes(self) -> set[int]:
        """The first process of each task, and of each copy."""
        return set(self._by_pid)

    def owner(self, mark: str) -> Task | None:
        """The task that still has processes with this mark."""
        return next((task for task in self._live if task.mark == mark), None)

    def reset(self, now: float) -> None:
        """As new, but for the numbers: all tasks are ended and forgotten, all nodes are up, no fault is on."""
        self.settings = Settings()
        for node in self.nodes:
            node.up = True
        for task in [*self._live]:
            task.again = False
            self.end(task, "cancelled", now, force=True)
        self.tasks.clear()

    def end_all(self) -> None:
        """The cluster ends, and all that it runs."""
        for task in self._live:
            task.send(signal.SIGKILL)
