"""A batch system somewhere else, at its wildest: what it says comes twice, late, in any order, or not at all.

It keeps to the contract of `orch.adapters.contract`, and to nothing beyond it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from orch.adapters.contract import Capacity, Finished, Queued, Started, Unknown, Update
from orch.agent.chains import has_values, passes_on, with_value
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.errors import AdapterError, Fenced
from simulator.oracle import Oracle
from simulator.process import Process
from simulator.world import World


@dataclasses.dataclass
class Wildness:
    """Chances between 0 and 1, and delays in seconds.

    `delay`      the most that an update takes to arrive
    `longest`    the most that a body runs
    `slow`       the most that the store takes for what a body leaves behind
    `ends`       that an attempt ends for this reason instead of well
    `twice`      that an update arrives twice
    `unheard`    that the answer to a submission is lost: the attempt is there, and nobody says so
    `vanishes`   that an attempt is reported missing, and comes back later
    `denies`     that the batch system says, unasked, that it does not know an attempt which it has
    `gives_up`   that the connection fails, and with it the leader
    `partial`    that a leader which dies in a call has got only a part of it through
    `forsakes`   that a service which is up is lost
    """

    delay: float = 0.1
    longest: float = 2.0
    slow: float = 0.0
    ends: Mapping[Reason, float] = dataclasses.field(default_factory=dict)
    twice: float = 0.0
    unheard: float = 0.0
    vanishes: float = 0.0
    denies: float = 0.0
    gives_up: float = 0.0
    partial: float = 0.0
    forsakes: float = 0.0


@dataclasses.dataclass(eq=False)
class Record:
    """What the batch system knows of an attempt."""

    attempt: Attempt
    running: bool = False
    outcome: Outcome | None = None
    missing: bool = False  # it was said to be gone
    before: Record | None = None  # a link of a chain: what it waits for
    void: list[str] = dataclasses.field(default_factory=list)  # links that were let go of when it was said to be gone
    up: Note | None = None  # of a service: what it said when it was up
    stopped: bool = False  # … and it was told to stop


class Batch:
    """The batch system. `body`: what an attempt does. It outlives leaders and power cuts."""

    def __init__(self, world: World, oracle: Oracle, body: Callable[[Attempt], Outcome], capacity: Capacity) -> None:
        self.wild = Wildness()
        self.capacity = capacity
        self.world = world
        self.oracle = oracle
        self.epoch = 0
        self.session: WildSession | None = None
        self.records: dict[str, Record] = {}
        self.acknowledged: set[str] = set()
        self._body = body

    async def connect(self, process: Process, epoch: int) -> WildSession:
        """A leader's connection; older ones are cut off."""
        await asyncio.sleep(self.world.chance.uniform(0, self.wild.delay))  # virtual seconds
        if epoch < self.epoch:
            raise Fenced(f"epoch {self.epoch} is connected")
        self.epoch = epoch
        self.session = WildSession(self, process)
        return self.session

    def forget_everything(self) -> None:
        """Another run has taken this one's place."""
        self.epoch, self.session = 0, None
        self.records.clear()
        self.acknowledged.clear()
        self.oracle.running.clear()

    @property
    def idle(self) -> bool:
        """Does nothing run?"""
        return all(record.outcome is not None for record in self.records.values())

    # What leaders ask for.

    def accept(self, attempt: Attempt) -> None:
        self.oracle.submitted(attempt)
        if attempt.key in self.acknowledged:
            self.oracle.violations.append(f"{attempt.key} is handed over again, after it was acknowledged")
        if attempt.key in self.records:
            return
        before = self.records.get(attempt.after)
        if before is not None and before.missing and before.outcome is None:
            before.void.append(attempt.key)
            return
        if before is not None and before.outcome is not None and not passes_on(before.outcome):
            return  # a link that is void, as its leader will see
        record = self.records[attempt.key] = Record(attempt)
        if not self.world.likely(self.wild.unheard):
            self.say(Queued(key=attempt.key, id=attempt.key))
        if before is not None and before.outcome is None:
            record.before = before
            return
        if before is not None and before.outcome is not None:
            record.attempt = with_value(attempt, before.attempt, before.outcome)
        self._line_up(record)

    def _line_up(self, record: Record) -> None:
        """Its turn will come."""
        attempt = record.attempt
        if attempt.after and not has_values(attempt):
            lost = Outcome(key=attempt.key, reason=Reason.LOST, message="what it was chained to is not here any more")
            self.world.soon(self.wild.delay, lambda: self._end(record, lost))
            return
        self.world.soon(self.wild.delay, lambda: self._start(record))
        if self.world.likely(self.wild.vanishes):
            self.world.soon(self.wild.longest, lambda: self._vanish(record))
        if self.world.likely(self.wild.denies):
            self.world.soon(self.wild.longest, lambda: self.say(Unknown(key=attempt.key)))

    def kill(self, key: str) -> None:
        record = self.records.get(key)
        if record is None:
            self.say(Unknown(key=key))
        elif record.outcome is not None:
            self.say(Finished(key=key, outcome=record.outcome))
        else:
            record.before = None
            self.world.soon(self.wild.delay, lambda: self._end(record, Outcome(key=key, reason=Reason.KILLED)))

    def stop(self, key: str) -> None:
        """Tell a service to stop by itself: it does so as soon as it is up."""
        record = self.records.get(key)
        if record is None:
            self.say(Unknown(key=key))
        elif not record.stopped:
            record.stopped = True
            if record.up is not None:
                self._leave(record)

    def _leave(self, record: Record) -> None:
        finished = Outcome(key=record.attempt.key, reason=Reason.FINISHED)
        self.world.soon(self.wild.delay, lambda: self._end(record, finished))

    def acknowledge(self, key: str) -> None:
        self.oracle.acknowledged(key)
        record = self.records.get(key)
        if record is not None and (record.outcome is not None or record.missing):
            self.acknowledged.add(key)
            if record.outcome is not None:
                del self.records[key]

    def find(self, keys: Sequence[str], ask: int) -> None:
        for key in keys:
            self.say(self._standing(key, ask))
        for key, record in list(self.records.items()):
            if key not in keys and self.records.get(key) is record:
                self._drop(record)

    def _drop(self, record: Record) -> None:
        """Nobody wants it."""
        if record.outcome is None:
            self._end(record, Outcome(key=record.attempt.key, reason=Reason.KILLED))
        self.records.pop(record.attempt.key, None)

    def _standing(self, key: str, ask: int) -> Update:
        record = self.records.get(key)
        if record is None:
            return Unknown(key=key, ask=ask)
        if record.outcome is not None:
            return Finished(key=key, outcome=record.outcome)
        if record.up is not None:
            self.say(record.up)
        return _started(record) if record.running else Queued(key=key, id="found")

    # What happens to attempts.

    def _known(self, record: Record) -> bool:
        return self.records.get(record.attempt.key) is record and record.outcome is None

    def _start(self, record: Record) -> None:
        if self._known(record) and not record.running:
            record.running = True
            self.oracle.body_started(record.attempt)
            self.say(_started(record))
            if self.world.likely(0.1):
                self.say(Note(key=record.attempt.key, kind="annotate", name="step", value=1))
            self.world.soon(self.wild.longest, lambda: self._finish(record))

    def _finish(self, record: Record) -> None:
        if not self._known(record):
            return
        outcome = self._misfortune(record) or self._body(record.attempt)
        if record.attempt.form == "service" and outcome.reason is Reason.FINISHED:
            self._is_up(record, outcome)
        else:
            self.world.soon(self.wild.slow, lambda: self._end(record, outcome))

    def _is_up(self, record: Record, outcome: Outcome) -> None:
        """It gives its credentials; and then, sometimes, it ends although nobody has told it to."""
        record.up = Note(key=record.attempt.key, kind="up", blob=outcome.value)
        self.say(record.up)
        if record.stopped:
            self._leave(record)
        misfortune = self._misfortune(record)
        if self.world.likely(self.wild.forsakes):
            misfortune = Outcome(key=record.attempt.key, reason=Reason.LOST, message="by chance")
        if misfortune is not None:
            self.world.soon(2 * self.wild.longest, lambda: self._end(record, misfortune))

    def _misfortune(self, record: Record) -> Outcome | None:
        for reason, chance in self.wild.ends.items():
            if self.world.likely(chance):
                return Outcome(key=record.attempt.key, reason=reason, message="by chance")
        return None

    def _vanish(self, record: Record) -> None:
        """It is said to be gone, while it goes on: whatever it says later comes too late."""
        if self._known(record):
            record.missing = True
            self._drop_links(record)
            self.oracle.written_off(record.attempt.key)
            key = record.attempt.key
            self.say(Finished(key=key, outcome=Outcome(key=key, reason=Reason.MISSING, message="not in the queue")))

    def _end(self, record: Record, outcome: Outcome) -> None:
        if not self._known(record):
            return
        record.outcome = msgspec.structs.replace(outcome, key=record.attempt.key)
        self.oracle.body_ended(record.attempt.key, record.outcome)
        self.say(Finished(key=record.attempt.key, outcome=record.outcome))
        self._go_on(record, record.outcome)

    def _go_on(self, record: Record, outcome: Outcome) -> None:
        """What is chained to it starts in its place, or is void: nothing is said of that."""
        for key in record.void:  # a leader that hears of this end, and not that it was gone, waits for them
            self.say(Unknown(key=key))
        if not passes_on(outcome):
            self._drop_links(record)
        for link in [each for each in self.records.values() if each.before is record]:
            link.before = None
            link.attempt = with_value(link.attempt, record.attempt, outcome)
            self._line_up(link)

    def _drop_links(self, record: Record) -> None:
        before = record
        while link := next((each for each in self.records.values() if each.before is before), None):
            del self.records[link.attempt.key]
            record.void.append(link.attempt.key)
            before = link

    def say(self, update: Update) -> None:
        """Send an update to the leader that is connected now."""
        session = self.session
        if session is not None:
            for _ in range(2 if self.world.likely(self.wild.twice) else 1):
                self.world.soon(self.wild.delay, lambda: session.arrive(update))


class WildSession:
    """One leader's connection."""

    def __init__(self, batch: Batch, process: Process) -> None:
        self._batch = batch
        self._process = process
        self._arrived: list[Update] = []
        self._news = asyncio.Event()

    def arrive(self, update: Update) -> None:
        """An update has come as far as the leader's process."""
        if self._process.alive:
            self._arrived.append(update)
            self._process.loop.call_soon(self._news.set)

    async def _call(self, what: str, items: Sequence[object], one: Callable[[object], None]) -> None:
        """One after the other, with time between them, as far as the leader lives and leads."""
        if self._batch.world.likely(0.3):
            await asyncio.sleep(self._batch.world.chance.uniform(0, self._batch.wild.delay))  # virtual seconds
        for item in items:
            self._process.check()
            if self._batch.session is not self:
                raise Fenced("a later leader is connected")
            one(item)
            if self._batch.world.likely(self._batch.wild.partial):
                self._process.crash()
        self._process.world.say(self._process.name, f"{what} {', '.join(map(_name, items))}")

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        await self._call("submits", attempts, self._batch.accept)  # type: ignore[arg-type]

    async def cancel(self, keys: Sequence[str]) -> None:
        await self._call("cancels", keys, self._batch.kill)  # type: ignore[arg-type]

    async def stop_services(self, keys: Sequence[str]) -> None:
        await self._call("tells to stop", keys, self._batch.stop)  # type: ignore[arg-type]

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """The capacity stays what it is."""

    async def acknowledge(self, keys: Sequence[str]) -> None:
        await self._call("acknowledges", keys, self._batch.acknowledge)  # type: ignore[arg-type]

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        await self._call("asks about", [keys], lambda _: self._batch.find(keys, ask))

    async def updates(self) -> AsyncIterator[list[Update]]:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._batch.world.likely(self._batch.wild.gives_up):
                raise AdapterError("the batch system does not answer any more")
            if self._arrived:
                batch, self._arrived = self._arrived, []
                yield batch

    def capacity(self) -> Capacity:
        return self._batch.capacity

    def stand_still(self, *, waits: bool) -> None:
        """There is one run."""

    async def describe(self, key: str) -> str:
        return ""

    async def output(self, key: str) -> tuple[bytes, bytes]:
        return b"", b""

    async def close(self) -> None:
        self._process.check()


def _started(record: Record) -> Started:
    return Started(key=record.attempt.key, host="elsewhere", pid=record.attempt.job, id=record.attempt.key)


def _name(item: object) -> str:
    return getattr(item, "key", None) or str(item)
