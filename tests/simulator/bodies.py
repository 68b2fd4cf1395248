"""Simulated bodies of attempts, and how an agent starts and ends them (`orch.agent.ports.Execution`).

A body is a process of its own: it ends when it likes or is ended, and lives on for a moment when its agent has died.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from orch.agent.admission import Admission
from orch.agent.model import Phase, Task
from orch.agent.ports import Listener
from orch.attempt import Attempt, Note, Outcome, Reason

if TYPE_CHECKING:
    from simulator.agent import AgentLife
    from simulator.host import Host


DEFERRED = 5.0
"""Seconds that it takes at most to do what an attempt of an earlier agent has deferred."""


class Body:
    """One process. `heard` is called with its outcome, or None if it was killed, unless nobody is there to hear.

    A service is up after a while, `said`, and then stays until it is told to leave, or something happens to it.
    """

    def __init__(
        self,
        host: Host,
        attempt: Attempt,
        heard: Callable[[Outcome | None], None],
        said: Callable[[Note], None] = lambda _: None,
    ) -> None:
        self.up = False
        self.dismissed = False
        self._said = said
        self.attempt = attempt
        self.pid = host.next_pid()
        self._host = host
        self._heard = heard
        host.bodies[self.pid] = self
        host.observer.body_started(attempt)
        if attempt.key in host.settled:
            host.observer.violations.append(f"{attempt.key} runs again, and the journal says that it is over")
        if (attempt.run, attempt.job) in host.finished:
            host.observer.violations.append(f"{attempt.key} runs, and the journal says that its job has finished")
        if host.forgotten(self.pid):
            host.observer.violations.append(f"{attempt.key} starts, and what others have deferred was not done yet")
        if not host.world.likely(host.weather.endless):
            host.world.soon(host.weather.longest, self.leave)
        if host.world.likely(host.weather.defers):
            host.world.soon(host.weather.longest, self._defer)

    @property
    def alive(self) -> bool:
        return self.pid in self._host.bodies

    def _defer(self) -> None:
        """Leave a note of what is to be done after its end, however that comes."""
        if self.alive:
            self._host.deferred[self.attempt.key] = self.pid
            self._host.defers.add(self.attempt.key)

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            self._end(None)

    def leave(self) -> None:
        """It has been told to."""
        if not self.alive:
            return
        outcome = self._host.misfortune(self.attempt) or self._host.body(self.attempt)
        if self.attempt.form == "service" and outcome.reason is Reason.FINISHED:
            self._serve(outcome)
        else:
            self._host.world.soon(self._host.weather.slow, lambda: self._stored(outcome))

    def _serve(self, outcome: Outcome) -> None:
        self.up = True
        self._said(Note(key=self.attempt.key, kind="up", blob=outcome.value))
        misfortune = self._host.misfortune(self.attempt)
        if self._host.world.likely(self._host.weather.forsakes):
            misfortune = Outcome(key=self.attempt.key, reason=Reason.LOST, message="by chance")
        if misfortune is not None:
            self._host.world.soon(2 * self._host.weather.longest, lambda: self._stored(misfortune))
        if self.dismissed:
            self.dismiss()

    def dismiss(self) -> None:
        """A service that is up stops; one that is not yet does so as soon as it is."""
        self.dismissed = True
        if self.up:
            ended = Outcome(key=self.attempt.key, reason=Reason.FINISHED)
            self._host.world.soon(self._host.weather.delay, lambda: self._stored(ended))

    def _stored(self, outcome: Outcome) -> None:
        """The store has taken its time. Whoever is killed meanwhile leaves files that no event names."""
        if self.alive:
            self._end(outcome)

    def _end(self, outcome: Outcome | None) -> None:
        del self._host.bodies[self.pid]
        self._host.observer.body_ended(self.attempt.key, outcome)
        self._heard(outcome)


class Bodies:
    """All attempts that one agent has let in. `ended`: those that did so in this turn."""

    listener: Listener

    def __init__(self, host: Host, agent: AgentLife, admission: Admission) -> None:
        self._host = host
        self._world = host.world
        self._agent = agent
        self._admission = admission
        self._tasks: dict[str, Task] = {}
        self._bodies: dict[str, Body] = {}
        self._ending: dict[str, tuple[Task, float]] = {}
        self.ended: list[Task] = []
        self._left: list[str] = []

    def recover(self) -> None:
        """Do what attempts of an earlier agent have deferred, before anything else: nothing of them runs any more."""
        self._left = list(self._host.deferred)
        for key in self._left:
            caught_up = functools.partial(self._caught_up, key)
            self._world.soon(DEFERRED, functools.partial(self._agent.post, caught_up))

    def _caught_up(self, key: str) -> None:
        self._host.do_deferred(key)
        self._left.remove(key)

    # Asked by the agent ---------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        return not self._tasks and not self._ending and not self._left

    def start(self, task: Task) -> None:
        """At once, as a command is; or once its template has answered."""
        self._agent.port()
        task.phase = Phase.HANDED
        self._tasks[task.key] = task
        if self._world.likely(self._host.weather.cannot):
            task.verdict = Outcome(key=task.key, reason=Reason.ERROR, message="it cannot be started")
            self._over(task)
        elif self._world.likely(0.5):
            self._begin(task)
        else:
            self._soon(lambda: self._answered(task))

    def stop(self, task: Task, reason: Reason, why: str) -> None:
        """As the real one: wherever it stands."""
        self._agent.port()
        if task.phase in {Phase.ENDING, Phase.ENDED} or task.kill is not None:
            return
        task.kill, task.why = reason, why
        if task.phase is Phase.QUEUED:
            self._admission.remove(task)
            self._over(task)
        elif task.phase is Phase.RUNNING:
            self._kill(task)
        elif self._world.likely(0.5):  # else it is killed as soon as it runs
            self._over(task)

    @property
    def catching_up(self) -> bool:
        return bool(self._left)

    def dismiss(self, task: Task) -> None:
        """It ends by itself in a moment, if it is up; else as soon as it is."""
        self._agent.port()
        task.dismissed = True
        if task.phase is Phase.RUNNING:
            self._bodies[task.key].dismiss()

    def sweep(self) -> None:
        """End what has nothing left running."""
        for task, held in list(self._ending.values()):
            if held <= self._world.now and not self._defers(task):
                del self._ending[task.key]
                self._finish(task)

    def _defers(self, task: Task) -> bool:
        """Has it left something to be done, and is that not done yet?"""
        if task.key not in self._host.deferred:
            return False
        if not task.deferring:
            task.deferring = True
            self._soon(lambda: self._host.do_deferred(task.key))
        return True

    def retire(self, now: float) -> None:
        """Nothing is kept warm."""

    def close(self) -> None:
        """Nothing is open."""

    # What becomes of attempts ---------------------------------------------------------------------------------

    def _soon(self, action: Callable[[], None]) -> None:
        self._world.soon(self._host.weather.delay, lambda: self._agent.post(action))

    def _answered(self, task: Task) -> None:
        if task.phase is not Phase.HANDED:
            return
        if self._world.likely(0.1):
            self._requeue(task)
        else:
            self._begin(task)

    def _requeue(self, task: Task) -> None:
        """It waited behind another in a warm worker, and was taken back."""
        if task.kill is not None:
            self._over(task)
            return
        task.phase = Phase.QUEUED
        self._admission.release(task)
        self._admission.add(task, first=True)

    def _begin(self, task: Task) -> None:
        body = Body(
            self._host,
            task.attempt,
            lambda outcome: self._agent.post(lambda: self._ended(task, outcome)),
            lambda note: self._agent.post(lambda: self.listener.noted(task, note) if task.live else None),
        )
        body.dismissed = task.dismissed
        self._bodies[task.key] = body
        self._agent.port()
        task.phase, task.pid = Phase.RUNNING, body.pid
        task.started_at, task.since = self._world.now, self._world.clock()
        walltime = task.attempt.resources.walltime
        if walltime:
            task.timer = self._agent.after(
                walltime, lambda: self.stop(task, Reason.MAXJOBDURATION, f"ran longer than {walltime:g} s")
            )
        self.listener.started(task)
        if self._world.likely(0.1):
            self.listener.noted(task, Note(key=task.key, kind="annotate", name="step", value=1))
        if task.kill is not None:
            self._kill(task)

    def _kill(self, task: Task) -> None:
        self._world.soon(self._host.weather.delay, self._bodies[task.key].kill)

    def _ended(self, task: Task, outcome: Outcome | None) -> None:
        task.verdict = outcome
        self._over(task)

    def _over(self, task: Task) -> None:
        """What it has left running may last."""
        if task.timer is not None:
            task.timer.cancel()
            task.timer = None
        task.phase, task.ended_at = Phase.ENDING, self._world.now
        held = self._world.chance.uniform(0, self._host.weather.delay) if self._world.likely(0.2) else 0.0
        self._ending[task.key] = task, self._world.now + held
        if held:
            self._world.later(held, lambda: self._agent.post(lambda: None))

    def _finish(self, task: Task) -> None:
        verdict = task.verdict
        if task.kill is not None and (verdict is None or verdict.reason is not Reason.FINISHED):
            verdict = Outcome(key=task.key, reason=task.kill, message=task.why)
        elif verdict is None:  # killed, and not by the agent
            verdict = Outcome(key=task.key, reason=Reason.FAILED, signal=9, message="killed by signal SIGKILL (9)")
        self._admission.release(task)
        self._tasks.pop(task.key, None)
        self._bodies.pop(task.key, None)
        task.phase = Phase.ENDED
        task.outcome = msgspec.structs.replace(verdict, key=task.key, host=self._host.name, ended=self._world.clock())
        self.ended.append(task)
        self.listener.finished(task, task.outcome)
