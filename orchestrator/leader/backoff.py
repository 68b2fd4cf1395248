"""Jobs that are ready and set aside: until when, and which of them may go on.

Measured on a clock that never jumps; what an earlier leader had set aside waits for no longer than it was to.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from orch.bus.events import Event, JobId, Retrying, Rewound
from orch.state.model import State
from orch.state.status import seconds_since


class Backoff:
    """`now`: monotonic seconds."""

    def __init__(self, state: State, now: Callable[[], float]) -> None:
        self._state = state
        self._now = now
        self._due: list[tuple[float, JobId, int]] = []
        self._ripe: dict[JobId, int] = {}  # with the attempt before
        for job, (since, wait) in [*state.delayed.items(), *state.held.items()]:
            self._set(job, max(0.0, wait - seconds_since(since, state.time)))

    def note(self, event: Event) -> None:
        """See whether an event sets a job aside."""
        if isinstance(event, Retrying | Rewound) and event.wait > 0:
            self._set(event.job, event.wait)

    def _set(self, job: JobId, wait: float) -> None:
        heapq.heappush(self._due, (self._now() + wait, job, self._state.jobs[job].attempt))

    def release(self, job: JobId) -> None:
        """A job that was set aside for another reason may go on."""
        self._ripe[job] = self._state.jobs[job].attempt

    def due(self) -> list[JobId]:
        """The jobs that may go on."""
        while self._due and self._due[0][0] <= self._now():
            _, job, attempt = heapq.heappop(self._due)
            if job in self._state.delayed or job in self._state.held:
                self._ripe[job] = attempt
        state = self._state
        for job, attempt in list(self._ripe.items()):
            aside = job in state.delayed or job in state.surveyed or job in state.held
            if not aside or state.jobs[job].attempt != attempt:
                del self._ripe[job]
        return [job for job in self._ripe if job not in state.held]

    @property
    def next(self) -> float | None:
        """When to look again."""
        return self._due[0][0] if self._due else None
