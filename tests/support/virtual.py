"""One leader after the other on a log in memory and a batch system elsewhere, in virtual time: hours take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from simulator.batch import Batch
from simulator.disk import Disk
from simulator.process import Process
from simulator.world import World

from orch.adapters.contract import Capacity
from orch.attempt import Attempt, Outcome, Plan
from orch.bus import events as ev
from orch.leader.leader import Leader
from orch.leader.requests import Request
from orch.leader.settings import Settings, rules
from orch.state.fold import apply, fold
from orch.state.model import State
from orch.state.react import planned
from orch.testing.log import MemoryLog

RUN = "run"
MOST_STEPS = 50_000


class Watcher:
    """Sees what happens in the batch system (as `simulator.oracle.Oracle`). `most`: bodies that ran at once."""

    def __init__(self, world: World) -> None:
        self.violations: list[str] = []
        self.running: dict[str, Attempt] = {}
        self.submissions: list[tuple[float, Attempt]] = []
        self.ends: list[str] = []
        self.most = 0
        self._world = world

    def submitted(self, attempt: Attempt) -> None:
        self.submissions.append((self._world.now, attempt))

    def acknowledged(self, key: str) -> None:
        """As it should be."""

    def body_started(self, attempt: Attempt) -> None:
        self.running[attempt.key] = attempt
        self.most = max(self.most, len(self.running))

    def body_ended(self, key: str, outcome: Outcome | None = None) -> None:
        self.running.pop(key, None)
        self.ends.append(key)

    def written_off(self, key: str) -> None:
        """It goes on all the same."""


class Held(Batch):
    """A batch system in which attempts of the jobs named in `held` stay in the queue."""

    held: frozenset[str] = frozenset()

    def _start(self, record: Any) -> None:
        if record.attempt.name not in self.held:
            super()._start(record)


class Virtual:
    """A run. `lead` begins a leader's life; `until` and `wait` let time pass. `state`: what the log says."""

    def __init__(
        self, plan: Plan, body: Callable[[Attempt], Outcome], capacity: Capacity | None = None, **settings: Any
    ) -> None:
        self.world = World(1)
        self.watcher = Watcher(self.world)
        room = capacity or Capacity(cores=4, memory=1 << 40, disk=1 << 40, ahead=4)
        self.batch = Held(self.world, self.watcher, body, room)  # type: ignore[arg-type]  # it has all that is used
        self.log = MemoryLog(RUN, self.world.clock)
        self.settings = Settings(adapter="fake", **settings)
        self.leader: Leader | None = None
        self.process: Process | None = None
        self._plan = plan
        self._lives = 0

    @property
    def state(self) -> State:
        return fold(self.log.events)

    def lead(self) -> Virtual:
        """A leader begins, or carries on where the last one was killed."""
        self._lives += 1
        self.process = Process(self.world, f"leader {self._lives}", disk=Disk(self.world), pid=self._lives)
        self.process.run(self._main(self.process))
        return self

    async def _main(self, process: Process) -> None:
        state = self.state
        writer = self.log.open()
        apply(state, writer.opened)
        if state.planned is None:
            for event in writer.stage([ev.Created(run=RUN), *planned(self._plan, rules(self.settings))]):
                apply(state, event)
            await writer.commit()
        session = await self.batch.connect(process, writer.epoch)
        self.leader = Leader(state, writer, session, self.settings, publish=lambda _: None, recorded=lambda _: None)
        await self.leader.lead()

    def request(self, what: str, **settings: Any) -> None:
        assert self.leader is not None
        self.leader.request(Request(run=RUN, what=what, epoch=1, by="test", settings=settings))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    # Time.

    def until(self, reached: Callable[[], object]) -> None:
        for _ in range(MOST_STEPS):
            if reached():
                return
            assert self.world.step(), "nothing will ever happen again"
        raise AssertionError("\n".join(self.world.lines[-30:]))

    def wait(self, seconds: float) -> None:
        over: list[bool] = []
        self.world.later(seconds, lambda: over.append(True))
        self.until(lambda: over)

    def to_end(self) -> str:
        """Let it lead to the end; the run's outcome."""
        process = self.process
        assert process is not None
        self.until(lambda: not process.alive)
        assert process.main is not None
        process.main.result()
        return self.state.outcome

    def said(self, *kinds: type[Any]) -> Iterator[Any]:
        """Durable events of some types."""
        return (event for event in self.log.events if isinstance(event, kinds))

    def submitted(self, name: str) -> list[tuple[float, Attempt]]:
        """When the attempts of a job were handed over."""
        return [(time, attempt) for time, attempt in self.watcher.submissions if attempt.name == name]
