"""From a seed to a story: what the workflow is, what goes wrong, and when; told until the run has succeeded.

The user of the story is patient: when no leader is alive and the run has not succeeded, it is carried on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from orch.adapters.contract import Capacity
from orch.attempt import Reason
from orch.bus import events as ev
from orch.bus.files import Files
from orch.bus.reader import read
from orch.errors import AdapterError, Fenced, LogTrouble, RunBusy
from orch.history import fold_quickly
from orch.leader.begin import commit_first
from orch.leader.carry_on import reopen
from orch.leader.opened import Ended, Opened
from orch.leader.requests import Request
from orch.leader.settings import Settings
from orch.leader.supply import Supply
from orch.state.law import LIVE
from orch.state.model import WORKFLOW
from orch.state.react import planned
from orch.state.status import explain
from simulator.batch import Batch, Wildness
from simulator.disk import Disk
from simulator.oracle import Oracle, Violation
from simulator.process import Killed, Process
from simulator.workload import ROOT, RUN, Workload
from simulator.world import World

CALM = 60.0
"""Virtual seconds until nothing goes wrong any more."""

PATIENCE = 600.0
"""Virtual seconds of calm in which a run must have succeeded."""

MOST_STEPS = 300_000

_ENDS = {
    Reason.FAILED: 0.05,
    Reason.MEMLIMIT: 0.02,
    Reason.LOST: 0.05,
    Reason.PREEMPTED: 0.03,
    Reason.PARTITION: 0.02,
    Reason.MAXJOBDURATION: 0.02,
}

_ALLOWED = (Fenced, LogTrouble, AdapterError, RunBusy)
"""What may end a leader: each says that the system, or another leader, was in the way."""


class Lock:
    """The run's lock as the kernel has it: let go of when its holder dies. `works`: on this file system."""

    def __init__(self, *, works: bool) -> None:
        self.works = works
        self.holder: Process | None = None

    def of(self, process: Process) -> _Held:
        """The lock as one process has it."""
        return _Held(self, process)


class _Held:
    def __init__(self, lock: Lock, process: Process) -> None:
        self._lock = lock
        self._process = process

    def acquire(self, *, take_over: bool = False) -> None:
        self._process.check()
        holder = self._lock.holder
        if self._lock.works and not take_over and holder is not None and holder.alive and holder is not self._process:
            raise RunBusy(f"{holder.name} leads")
        self._lock.holder = self._process

    def renew(self) -> bool:
        self._process.check()
        return self._lock.holder is self._process

    def release(self) -> None:
        if self._lock.holder is self._process:
            self._lock.holder = None


class Story:
    """One seed's. `tell` raises `Violation`."""

    def __init__(self, seed: int, *, calm: bool = False, small: bool = False) -> None:
        self.world = World(seed)
        self.disk = Disk(self.world)
        chance = self.world.chance
        size = 2 if small else chance.choice([2, 3, 4, 6])
        self.workload = Workload(seed, self.world, self.disk, most=size, deepest=1 if small else chance.randint(1, 3))
        self.capacity = Capacity(cores=chance.choice([2, 4]), memory=8 << 30, disk=1 << 40, ahead=chance.choice([0, 2]))
        self.oracle = Oracle(self.disk, ROOT, int(self.capacity.cores) + self.capacity.ahead)
        self.batch = Batch(self.world, self.oracle, self.workload.body, self.capacity)
        durability = "relaxed" if not calm and chance.random() < 0.2 else "always"
        self.settings = Settings(adapter="wild", retries=1, durability=durability)
        self.lock = Lock(works=chance.random() < 0.7)
        self.leaders: list[Process] = []
        self.opened: dict[Process, Opened] = {}
        self.lives = 0
        self.over = False
        self._tries = 1
        self._wild = not calm
        if self._wild:
            self._let_loose()
        self.world.later(0.0, self.start_leader)

    # What goes wrong.

    def _let_loose(self) -> None:
        chance = self.world.chance
        delay = chance.choice([0.0, 0.1, 1.0])
        self.batch.wild = Wildness(
            delay=delay,
            longest=chance.choice([0.1, 2.0, 10.0]),
            ends={reason: often * chance.choice([0, 1, 2]) for reason, often in _ENDS.items()},
            twice=chance.choice([0.0, 0.3]),
            unheard=chance.choice([0.0, 0.2]),
            vanishes=chance.choice([0.0, 0.05]),
            denies=chance.choice([0.0, 0.05]),
            gives_up=chance.choice([0.0, 0.01]),
            partial=chance.choice([0.0, 0.01]),
        )
        faults = self.disk.faults
        faults.latency = {"": chance.choice([0.0, 0.001, 0.01]), "sync": chance.choice([0.001, 0.01, 0.5])}
        if chance.random() < 0.3:
            faults.errors = {what: chance.choice([0.0, 0.01, 0.05]) for what in ("write", "sync", "create", "rename")}
        misfortunes: list[Callable[[], None]] = [
            self._kill, self._kill, self._kill_soon, self._kill_soon, self._stop, self._power_cut, self._disk_full,
            self._second_leader, self._wish, self._wish, self._clock_jump,
        ]  # fmt: skip
        for _ in range(chance.choice([0, 1, 3, 6, 12])):
            self.world.later(chance.uniform(0, CALM / 3) ** chance.choice([0.5, 1.0]), chance.choice(misfortunes))
        self.world.later(CALM, self._calm_down)

    def _calm_down(self) -> None:
        self.world.say("story", "nothing goes wrong from here on")
        self._wild = False
        self.batch.wild = Wildness()
        self.disk.faults.errors = {}
        self.disk.faults.room = None
        for leader in list(self.leaders):
            leader.doom = 0
            if leader.stopped:
                leader.go_on()
        self.world.later(1.0, self._resume)

    def _resume(self) -> None:
        for opened in self.opened.values():
            if opened.state.paused:
                self._say_wish(opened, "resume")
        if not self.over:
            self.world.later(5.0, self._resume)

    def _some_leader(self) -> Process | None:
        return self.world.chance.choice(self.leaders) if self.leaders else None

    def _kill(self) -> None:
        leader = self._some_leader()
        if leader is not None:
            leader.kill()

    def _kill_soon(self) -> None:
        """A leader dies in one of its next steps: in the middle of whatever it does then."""
        leader = self._some_leader()
        if leader is not None:
            leader.doom = leader.steps + self.world.chance.randint(1, 60)

    def _stop(self) -> None:
        leader = self._some_leader()
        if leader is not None and not leader.stopped:
            leader.stop()
            self.world.soon(20.0, leader.go_on)

    def _power_cut(self) -> None:
        """Every leader dies, and what was not synced."""
        self.world.say("disk", "power cut")
        for leader in list(self.leaders):
            leader.kill()
        self.disk.power_cut()
        if self.settings.durability == "relaxed":
            self.oracle.forget(len(self.events()))
            self.batch.acknowledged.clear()

    def _disk_full(self) -> None:
        self.disk.faults.room = self.world.chance.randint(0, 3000)
        self.world.say("disk", f"is full after {self.disk.faults.room} bytes")
        self.world.soon(10.0, lambda: setattr(self.disk.faults, "room", None))

    def _second_leader(self) -> None:
        if self.oracle.state.planned is not None:
            self.start_leader(take_over=True)

    def _clock_jump(self) -> None:
        leader = self._some_leader()
        if leader is not None:
            leader.offset = self.world.chance.choice([-3600.0, 3600.0, -86400.0])
            self.world.say(leader.name, f"has its clock set by {leader.offset} s")

    def _wish(self) -> None:
        leader = self._some_leader()
        opened = self.opened.get(leader) if leader is not None else None
        if opened is not None:
            self._say_wish(opened, self.world.chance.choice(["pause", "resume", "stop", "cancel", "pause"]))

    def _say_wish(self, opened: Opened, what: str) -> None:
        self.world.say("user", f"wishes: {what}")
        opened.leader.request(Request(run=RUN, what=what, epoch=opened.state.epoch, by="user"))

    # Leaders.

    @property
    def directory(self) -> Path:
        """Where the log is. A run that died before its first jobs were recorded is begun anew, under another name."""
        return Path(f"{ROOT}/runs/{RUN}{self._tries}/log")

    def events(self) -> list[ev.Event]:
        """The log, as it is on the disk."""
        return list(read(self.directory, files=cast("Files", self.disk)))  # it has all that reading takes

    def start_leader(self, *, take_over: bool = False) -> None:
        """A leader begins, or carries on."""
        self.lives += 1
        process = Process(self.world, f"leader {self.lives}", disk=self.disk, pid=self.lives)
        process.on_end = lambda: self._ended(process)
        self.leaders.append(process)
        self.world.say(process.name, "starts")
        process.run(self._lead(process, take_over=take_over))

    async def _lead(self, process: Process, *, take_over: bool) -> None:
        opened = await self._open(process, take_over=take_over)
        self.oracle.adopt(self.events())
        if isinstance(opened, Ended):
            return
        self.opened[process] = opened
        await opened.lead(lambda events: self._published(process, opened, events))

    async def _open(self, process: Process, *, take_over: bool) -> Opened | Ended:
        machine, lock = process.machine, self.lock.of(process)
        state = fold_quickly(self.directory, files=machine.files)
        if state.planned is not None:
            return await reopen(
                self.directory,
                lock,
                state,
                lambda epoch: self.batch.connect(process, epoch),
                self.settings,
                take_over=take_over,
                by="user",
                machine=machine,
            )
        if self.disk.list(self.directory):
            self._tries += 1
            self.batch.forget_everything()
            if self.settings.durability == "relaxed":
                self.oracle.forget(0)
        session = await self.batch.connect(process, 1)
        first = [ev.Created(run=RUN), *planned(self.workload.plan(), self.settings.retries)]
        return await commit_first(
            RUN, self.directory, lock, session, settings=self.settings, events=first, machine=machine
        )

    def _published(self, process: Process, opened: Opened, events: list[ev.Event]) -> None:
        process.check()
        self.world.say(process.name, "commits " + "; ".join(map(shown, events)))
        self.oracle.published(events, opened.state)

    def _ended(self, process: Process) -> None:
        """A leader has ended, somehow."""
        self.leaders.remove(process)
        self.opened.pop(process, None)
        if self.lock.holder is process:
            self.lock.holder = None
        error = _error(process)
        self.world.say(process.name, f"ends: {error!r}" if error else "ends")
        if error is not None and not isinstance(error, (*_ALLOWED, Killed)):
            self.oracle.violations.append(f"{process.name} ends with {error!r}")
        self.oracle.violations += [f"{process.name}: {trouble!r}" for trouble in process.loop.troubles]
        if self.oracle.state.outcome == "succeeded" and not self.leaders:
            self.over = True
        elif not self.leaders:
            self.world.soon(3.0, self._carry_on)

    def _carry_on(self) -> None:
        if not self.leaders:
            self.start_leader()

    # The whole of it.

    def tell(self) -> None:
        """Until the run has succeeded. Raises `Violation`."""
        while not self.over:
            if not self.world.step():
                self.oracle.violations.append("nothing will ever happen again")
            if self.world.steps > MOST_STEPS or self.world.now > CALM + PATIENCE:
                self.oracle.violations.append(f"the run does not end: {self._why()}")
            if self.oracle.violations:
                raise Violation("; ".join(self.oracle.violations[:5]))
        self._check_end()

    def _why(self) -> str:
        state = self.oracle.state
        waiting = [row for row in state.jobs.values() if row.state in LIVE or row.id in state.ready]
        return "; ".join(f"{row.label}: {row.state}, {explain(state, row)}" for row in waiting[:5])

    def _check_end(self) -> None:
        events = self.events()
        self.oracle.adopt(events)
        self.oracle.check_end(self.workload.names)
        values = Supply(lambda seq: events[seq - 1]).values(self.oracle.state, [WORKFLOW])
        result = self.workload.result(values)
        if result != self.workload.expected:
            self.oracle.violations.append(f"the result is {result}, and should be {self.workload.expected}")
        if self.oracle.violations:
            raise Violation("; ".join(self.oracle.violations[:5]))


def shown(event: ev.Event) -> str:
    """An event in a line of the transcript."""
    kind = str(event.__struct_config__.tag)
    job = getattr(event, "job", 0)
    attempt = getattr(event, "attempt", 0)
    extra = getattr(event, "reason", "") or getattr(event, "outcome", "") or getattr(event, "what", "")
    return f"{event.seq} {kind}" + (f" {job}.{attempt}" if job else "") + (f" ({extra})" if extra else "")


def _error(process: Process) -> BaseException | None:
    task = process.main
    if task is None or not task.done() or task.cancelled():
        return None
    error: BaseException | None = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
