"""Warm workers, as the agent sees them: who runs what, and what waits behind it.

Attempts are handed to a worker ahead of time, so that none has to wait for a round trip. They lie in the worker's
socket until it takes them, one at a time; the agent keeps the reading end as well, and takes them back when the one
before them lasts, when the worker dies, or when one is cancelled. A worker serves one run and one shape of attempts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque

from orch.agent import inside, packets
from orch.agent.captures import Capture
from orch.agent.model import Run, Shape, Task
from orch.agent.templates import Template, Templates

MOST_AHEAD = 16
QUICK = 0.005
"""Seconds: while attempts are as short as this, more of them are handed ahead."""

SLOW = 0.05
"""Seconds after which what waits behind an attempt is taken back."""

IDLE = 30.0
"""Seconds after which an idle worker ends."""


class Hired:
    """One worker. `inflight` are its attempts, the first of which runs; `scratch` is the directory that they share."""

    __slots__ = (
        "_back",
        "ahead",
        "capture",
        "doomed",
        "feed",
        "idle_since",
        "inflight",
        "number",
        "pid",
        "proven",
        "run",
        "scratch",
        "sender",
        "shape",
        "template",
    )

    def __init__(self, number: int, run: Run, shape: Shape, capture: Capture, scratch: str, template: Template) -> None:
        self.number = number
        self.template = template
        self.pid = 0
        self.run = run
        self.shape = shape
        self.capture = capture
        self.scratch = scratch
        self.inflight: deque[Task] = deque()
        self.ahead = 1
        self.proven = False
        self.doomed = False  # told to die: nothing is handed to it any more
        self.idle_since = 0.0
        self.feed, self._back = packets.pair()
        self.feed.settimeout(0)
        self.sender = packets.Sender(self.feed)

    @property
    def takes_ahead(self) -> bool:
        """Would it take one more, while it is busy? Behind what has a successor in a chain, that one comes."""
        return 0 < len(self.inflight) <= self.ahead and not self.doomed and not self.inflight[-1].linked

    @property
    def back(self) -> int:
        """The descriptor from which the worker takes its attempts."""
        return self._back.fileno()

    def give(self, task: Task) -> None:
        """Hand an attempt over."""
        task.place = self
        self.inflight.append(task)
        self.sender.send(inside.encode(task.attempt))

    def take_back(self) -> list[Task]:
        """Take back what the worker has not taken yet, in order."""
        if self._back.fileno() < 0:
            return []
        count = 0
        while True:
            try:
                packets.discard(self._back)
            except BlockingIOError:
                if self.sender.waiting:
                    self.sender.flush()
                    continue
                break
            count += 1
        taken = [self.inflight.pop() for _ in range(count)]
        taken.reverse()
        return taken

    def close(self) -> None:
        """Nothing will be handed over any more: the worker ends when it is done."""
        self.sender.close()
        with contextlib.suppress(OSError):
            self.feed.close()
            self._back.close()


class Workers:
    """All warm workers of an agent."""

    def __init__(self, templates: Templates, most_idle: int) -> None:
        self._templates = templates
        self._most_idle = most_idle
        self._numbers = itertools.count(1)
        self._lanes: dict[tuple[str, Shape], list[Hired]] = {}
        self.all: dict[int, Hired] = {}

    def room(self, run: Run, shape: Shape) -> bool:
        """Would a busy worker take one more ahead?"""
        return any(each.takes_ahead for each in self._lanes.get((run.name, shape), ()))

    def give(self, task: Task, template: Template) -> bool:
        """Hand an attempt to a worker: an idle or a new one if its resources are reserved, else ahead to a busy one.

        True if it runs now. Raises `OSError` if a worker cannot be made.
        """
        lane = self._lanes.setdefault((task.run.name, task.shape), [])
        if task.reserved:
            worker = next((each for each in lane if not each.inflight and not each.doomed), None) or self._hire(
                task, template
            )
        else:
            worker = min((each for each in lane if each.takes_ahead), key=lambda each: len(each.inflight))
        worker.capture.out.limit = worker.capture.err.limit = task.attempt.max_log
        worker.give(task)
        return len(worker.inflight) == 1

    def done(self, task: Task, wall: float) -> Task | None:
        """The running attempt of a worker is over: the next one, which now runs in its place."""
        worker = task.place
        assert isinstance(worker, Hired)
        worker.inflight.popleft()
        worker.sender.flush()
        worker.proven = True
        worker.ahead = min(MOST_AHEAD, worker.ahead * 2) if wall < QUICK else 1
        if not worker.inflight:
            worker.idle_since = time.monotonic()
            return None
        return worker.inflight[0]

    def take_back(self, worker: Hired) -> list[Task]:
        """What waits behind the running attempt, and has not been taken meanwhile."""
        worker.ahead = 0
        return worker.take_back()

    def slow(self, now: float) -> list[Hired]:
        """Workers whose running attempt keeps others waiting."""
        return [
            each
            for each in self.all.values()
            if len(each.inflight) > 1 and each.inflight[0].started_at and now - each.inflight[0].started_at > SLOW
        ]

    def gone(self, worker: Hired) -> tuple[list[Task], list[Task]]:
        """The worker has ended: the attempt that it had taken (none or one), and those that were behind it."""
        behind = worker.take_back()
        taken = list(worker.inflight)
        if taken and not os.path.lexists(taken[0].scratch):  # else it had one of its own
            taken[0].scratch, worker.scratch = worker.scratch, ""
        self._forget(worker)
        return taken, behind

    def retire(self, now: float) -> None:
        """End workers that have been idle for long."""
        for worker in list(self.all.values()):
            if not worker.inflight and worker.idle_since and now - worker.idle_since > IDLE:
                self._dismiss(worker)

    def _hire(self, task: Task, template: Template) -> Hired:
        idle = [each for each in self.all.values() if not each.inflight and each.idle_since and not each.doomed]
        for each in sorted(idle, key=lambda each: each.idle_since)[: max(0, len(idle) - self._most_idle + 1)]:
            self._dismiss(each)
        capture = task.run.space.captures.take(task.attempt.max_log)
        scratch = task.run.space.scratch.lend()
        worker = Hired(next(self._numbers), task.run, task.shape, capture, scratch, template)
        self.all[worker.number] = worker
        self._lanes.setdefault((task.run.name, task.shape), []).append(worker)
        self._templates.hire(template, worker, (capture.out.file, capture.err.file, worker.back))
        return worker

    def _dismiss(self, worker: Hired) -> None:
        """Let an idle worker end; `gone` comes when it has."""
        lane = self._lanes.get((worker.run.name, worker.shape), [])
        if worker in lane:
            lane.remove(worker)
        worker.idle_since = 0.0
        worker.close()

    def _forget(self, worker: Hired) -> None:
        self.all.pop(worker.number, None)
        lane = self._lanes.get((worker.run.name, worker.shape), [])
        if worker in lane:
            lane.remove(worker)
        if not lane:
            self._lanes.pop((worker.run.name, worker.shape), None)
        if worker.scratch:
            worker.run.space.scratch.remove(worker.scratch)
        worker.close()
