"""A batch system in memory, with seeded faults: an adapter for tests of leaders.

It outlives the leaders that use it, as a real one does. Time is simulated: it jumps to the next thing that happens
whenever a leader listens. Every update takes its own time to arrive, so that updates overtake each other, and may
arrive twice. The same seed gives the same story, as long as the leader does the same.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from anyio.lowlevel import checkpoint

from orch.adapters.contract import Capacity, Finished, Queued, RunInfo, Session, Started, Unknown, Update
from orch.agent.chains import has_values, passes_on, with_value
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bus.events import Blob
from orch.errors import AdapterError, Fenced
from orch.testing.faults import Crash, Crashed, SimClock

PATIENCE = 200
"""Turns of the loop in which neither side says anything, before that is taken for a stall."""


class Stalled(AdapterError):
    """Nothing runs, nothing is on its way, and the leader asks for nothing."""


@dataclasses.dataclass(frozen=True)
class Faults:
    """Chances between 0 and 1, and delays.

    `delay`   the most seconds that an update, a start or an end takes
    `twice`   that an update arrives twice
    """

    delay: float = 0.0
    twice: float = 0.0


@dataclasses.dataclass
class Record:
    """What the batch system knows of an attempt."""

    attempt: Attempt
    running: bool = False
    outcome: Outcome | None = None
    before: Record | None = None  # a link of a chain: what it waits for
    up: Outcome | None = None  # of a service: what it leaves behind, once it is stopped
    stopped: bool = False


class FakeBatch:
    """The adapter, and the batch system behind it.

    `body`      what an attempt does: from the attempt to what it leaves behind; None: it runs until it is ended. The
                value that a service leaves behind is its credentials: it is up, and ends when it is told to
    `succeeded` how often the body of each job ran to its end, by job id
    `calls`     what leaders have asked for, in order: ("submit", key) …
    `on_submit` and `on_acknowledge` are called before anything else, to look whether they are allowed to
    `on_idle`   called when nothing moves; gives False if it had no remedy either
    """

    name = "fake"

    def __init__(
        self,
        body: Callable[[Attempt], Outcome | None],
        *,
        seed: int = 0,
        faults: Faults | None = None,
        capacity: Capacity | None = None,
        clock: SimClock | None = None,
    ) -> None:
        self.body = body
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.capacity = capacity or Capacity(cores=4, memory=1 << 40, disk=1 << 40, ahead=2)
        self.clock = clock or SimClock()
        self.records: dict[str, Record] = {}
        self.acknowledged: set[str] = set()
        self.succeeded: Counter[int] = Counter()
        self.calls: list[tuple[str, str]] = []
        self.on_submit: Callable[[Attempt], None] = lambda _: None
        self.on_acknowledge: Callable[[str], None] = lambda _: None
        self.on_idle: Callable[[], bool] = lambda: False
        self.crash: Crash | None = None
        self._session: FakeSession | None = None
        self._epoch = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0

    # The adapter.

    async def open(self, info: RunInfo) -> Session:
        """Connect a leader; an older one is cut off."""
        return self.connect(info.epoch)

    def connect(self, epoch: int) -> FakeSession:
        """As `open`."""
        if epoch < self._epoch:
            raise Fenced(f"epoch {self._epoch} is connected")
        self._epoch = epoch
        self._session = FakeSession(self)
        return self._session

    async def close(self) -> None:
        """Nothing to end."""

    # Time.

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds of simulated time."""
        self._entries += 1
        heapq.heappush(self._agenda, (self.clock.seconds + seconds, self._entries, action))

    def step(self) -> bool:
        """Let the next thing happen; False if there is none."""
        if not self._agenda:
            return False
        time, _, action = heapq.heappop(self._agenda)
        self.clock.reach(time)
        action()
        return True

    def _soon(self, action: Callable[[], None]) -> None:
        self.later(self.random.uniform(0, self.faults.delay), action)

    # What happens to attempts.

    def accept(self, attempt: Attempt) -> None:
        """An attempt is handed over; one that is known already is left as it is."""
        self.calls.append(("submit", attempt.key))
        self.on_submit(attempt)
        if attempt.key in self.acknowledged:
            raise AssertionError(f"{attempt.key} is handed over again, after its outcome was acknowledged")
        if attempt.key in self.records:
            return
        before = self.records.get(attempt.after)
        if before is not None and before.outcome is not None and not passes_on(before.outcome):
            return  # a link that is void, as its leader will see
        self.records[attempt.key] = record = Record(attempt)
        self.say(Queued(key=attempt.key, id=f"b{len(self.calls)}"))
        if before is None or before.outcome is not None:
            self._line_up(record, before)
        else:
            record.before = before

    def _line_up(self, record: Record, before: Record | None) -> None:
        """Its turn will come; it gets the value of what it follows in a chain."""
        if before is not None and before.outcome is not None:
            record.attempt = with_value(record.attempt, before.attempt, before.outcome)
        if record.attempt.after and not has_values(record.attempt):
            lost = Outcome(key=record.attempt.key, reason=Reason.LOST, message="what it was chained to is not here")
            self._soon(lambda: self.end(record, lost) if self._known(record) else None)
        else:
            self._soon(lambda: self._start(record))

    def _known(self, record: Record) -> bool:
        return self.records.get(record.attempt.key) is record and record.outcome is None

    def _start(self, record: Record) -> None:
        if self._known(record):
            record.running = True
            self.say(_started(record, self.clock()))
            self._soon(lambda: self._finish(record))

    def _finish(self, record: Record) -> None:
        if not self._known(record):
            return
        outcome = self.body(record.attempt)
        if outcome is None:
            return
        if record.attempt.form == "service" and outcome.reason is Reason.FINISHED and not record.stopped:
            record.up = outcome  # it stays up until it is told to stop
            self.say(Note(key=record.attempt.key, kind="up", blob=outcome.value))
        else:
            self.end(record, outcome)

    def stop(self, key: str) -> None:
        """Tell a service to stop by itself."""
        self.calls.append(("stop", key))
        record = self.records.get(key)
        if record is None or record.outcome is not None:
            return
        record.stopped = True
        if record.up is not None:
            ended = msgspec.structs.replace(record.up, value=Blob())
            self._soon(lambda: self.end(record, ended) if self._known(record) else None)

    def end(self, record: Record, outcome: Outcome) -> None:
        """An attempt is over: its outcome stays until it is acknowledged."""
        record.outcome = msgspec.structs.replace(outcome, key=record.attempt.key)
        if outcome.reason is Reason.FINISHED:
            self.succeeded[record.attempt.job] += 1
        self.say(Finished(key=record.attempt.key, outcome=record.outcome))
        link = next((each for each in self.records.values() if each.before is record), None)
        if link is not None:
            self._go_on(link, record)

    def _go_on(self, link: Record, before: Record) -> None:
        """A link starts in the place of what it follows; or it is void, and nothing is said of it."""
        link.before = None
        if before.outcome is not None and passes_on(before.outcome):
            self._line_up(link, before)
            return
        while link is not None:
            del self.records[link.attempt.key]
            link = next((each for each in self.records.values() if each.before is link), None)  # type: ignore[assignment]

    def kill(self, key: str) -> None:
        """End an attempt on request, unless it is quicker."""
        self.calls.append(("cancel", key))
        record = self.records.get(key)
        if record is None:
            self.say(Finished(key=key, outcome=Outcome(key=key, reason=Reason.KILLED)))
            return
        if record.outcome is not None:
            self.say(Finished(key=key, outcome=record.outcome))
            return

        def now() -> None:
            if self._known(record):
                self.end(record, Outcome(key=key, reason=Reason.KILLED))

        self._soon(now)

    def forget(self, key: str) -> None:
        """The outcome of an attempt is durable elsewhere."""
        self.calls.append(("acknowledge", key))
        self.on_acknowledge(key)
        self.acknowledged.add(key)
        self.records.pop(key, None)

    def answer(self, keys: Sequence[str], ask: int = 0) -> None:
        """Say where each of these attempts stands; attempts that nobody asks for are ended."""
        for key in keys:
            self.calls.append(("find", key))
            self.say(self._standing(key, ask))
        for key in set(self.records) - set(keys):
            del self.records[key]

    def _standing(self, key: str, ask: int) -> Update:
        record = self.records.get(key)
        if record is None:
            return Unknown(key=key, ask=ask)
        if record.outcome is not None:
            return Finished(key=key, outcome=record.outcome)
        if record.up is not None:
            self.say(Note(key=key, kind="up", blob=record.up.value))
        return _started(record, self.clock()) if record.running else Queued(key=key, id="found")

    def say(self, update: Update) -> None:
        """Send an update to the leader that is connected now; it arrives some time, or twice."""
        session = self._session
        if session is None:
            return
        copies = 2 if self.random.random() < self.faults.twice else 1
        for _ in range(copies):
            self._soon(lambda: session.arrived.append(update))


class FakeSession:
    """One leader's connection. `arrived` is what it has not taken yet."""

    def __init__(self, batch: FakeBatch) -> None:
        self.arrived: list[Update] = []
        self._batch = batch

    def _call(self, count: int) -> tuple[int, bool]:
        """How many of a call's items get through, and whether the leader dies then."""
        if self._batch._session is not self:  # noqa: SLF001 - the two classes are one unit
            raise Fenced("a later leader is connected")
        crash = self._batch.crash
        if crash is None or not crash.due():
            return count, False
        return {"before": 0, "half": count // 2, "after": count}[crash.when], True

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand over attempts."""
        await checkpoint()
        through, dies = self._call(len(attempts))
        for attempt in attempts[:through]:
            self._batch.accept(attempt)
        if dies:
            raise Crashed("while handing over")

    async def cancel(self, keys: Sequence[str]) -> None:
        """Ask to end attempts."""
        through, dies = self._call(len(keys))
        for key in keys[:through]:
            self._batch.kill(key)
        if dies:
            raise Crashed("while cancelling")

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Services end well, some time."""
        through, dies = self._call(len(keys))
        for key in keys[:through]:
            self._batch.stop(key)
        if dies:
            raise Crashed("while stopping services")

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """The capacity stays what it is."""

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Outcomes are durable."""
        through, dies = self._call(len(keys))
        for key in keys[:through]:
            self._batch.forget(key)
        if dies:
            raise Crashed("while acknowledging")

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask where attempts stand."""
        self._batch.answer(keys, ask)

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates; simulated time goes on while they are waited for. Raises `Stalled`."""
        idle = 0
        while True:
            moved = [self._batch.step() for _ in range(self._batch.random.randint(1, 4))]
            batch, self.arrived = self.arrived, []
            if batch:
                yield batch
            await checkpoint()
            idle = 0 if any(moved) else idle + 1
            if idle > PATIENCE:
                if not self._batch.on_idle():
                    raise Stalled("nothing runs, nothing is on its way, and the leader asks for nothing")
                idle = 0

    def capacity(self) -> Capacity:
        """The limits."""
        return self._batch.capacity

    def stand_still(self, *, waits: bool) -> None:
        """There is one run."""

    async def describe(self, key: str) -> str:
        """Why it is not running yet."""
        return "waits in the fake queue" if key in self._batch.records else ""

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """Fake attempts print nothing."""
        return b"", b""

    async def close(self) -> None:
        """Let go."""


def _started(record: Record, now: str) -> Started:
    return Started(key=record.attempt.key, host="host", pid=record.attempt.job, since=now)
