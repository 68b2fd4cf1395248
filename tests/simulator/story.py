"""From a seed to a story: a workflow, a system that runs it, and leaders, told until the run has succeeded.

The user of the story is patient: when no leader is alive and the run has not succeeded, it is carried on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from orch.adapters.contract import Capacity, Session
from orch.adapters.local import AHEAD
from orch.agent.totals import Totals
from orch.attempt import Attempt
from orch.bus import events as ev
from orch.bus.files import Files
from orch.bus.reader import read
from orch.errors import AdapterError, Fenced, LogTrouble, RunBusy
from orch.history import fold_quickly
from orch.leader.begin import commit_first
from orch.leader.carry_on import reopen
from orch.leader.opened import Ended, Opened
from orch.leader.requests import Request
from orch.leader.settings import Settings, rules
from orch.leader.supply import Supply
from orch.state import table
from orch.state.law import LIVE
from orch.state.model import WORKFLOW
from orch.state.react import planned
from orch.state.status import explain
from simulator.batch import Batch
from simulator.calls import KnownCalls
from simulator.disk import Disk
from simulator.host import Host
from simulator.kind import ANY, Kind
from simulator.lock import Lock
from simulator.names import ROOT, RUN
from simulator.oracle import Oracle, Violation
from simulator.process import Killed, Process
from simulator.trouble import CALM, SERVICES, THEMES, Trouble
from simulator.workload import Workload
from simulator.world import World

PATIENCE = 900.0
"""Virtual seconds of calm in which a run must have succeeded."""

MOST_STEPS = 300_000

_ALLOWED = (Fenced, LogTrouble, AdapterError, RunBusy, Killed)
"""What may end a leader: each says that the system, or another leader, was in the way."""

GB = 1 << 30

MANY = table.HOT

MORE_SERVICES = 5
"""Where they are the theme, so many for seven plain jobs, instead of one."""

RICH = 0.52
"""Share of the stories in which jobs have children, follow-ons, services, checkpoints and all that.

Those whose theme is services come on top: it is six in ten of all.
"""


class Story:
    """One seed's. `tell` raises `Violation`. `calm`: nothing goes wrong; `small`: a few jobs only."""

    def __init__(self, seed: int, *, calm: bool = False, small: bool = False, kind: Kind = ANY) -> None:
        table.HOT = 2 if seed % 2 else MANY  # nearly all rows of a leader's state are packed, after every turn
        self.world = World(seed)
        self.disk = Disk(self.world)
        chance = self.world.chance
        most, deepest = (3, 1) if small else (chance.choice([2, 3, 4, 6]), chance.randint(1, 3))
        theme = "" if calm else kind.theme or chance.choice(sorted(THEMES))
        rich = _either(kind.rich, theme == SERVICES or chance.random() < RICH)
        services = MORE_SERVICES if theme == SERVICES else 1
        self.workload = Workload(seed, self.world, self.disk, most=most, deepest=deepest, rich=rich, services=services)
        self.leaders: list[Process] = []
        self.opened: dict[Process, Opened] = {}
        self.over = False
        self._wishes: dict[Opened, list[list[Any]]] = {}
        self._lives = 0
        self._tries = 1
        cores, ahead = chance.choice([2, 4]), 30 if rich else chance.choice([0, 2])
        here = _either(kind.here, chance.random() < 0.5)
        self.oracle = Oracle(self.disk, ROOT, cores + (AHEAD if here else ahead))
        self.system = self._host(cores) if here else self._batch(cores, ahead)
        durability = "relaxed" if not calm and chance.random() < 0.1 else "always"
        self.settings = Settings(
            adapter="simulated",
            retries=1,
            retry_backoff=chance.choice([0.0, 0.5, 5.0]),
            max_lost=-1,
            chaining=chance.random() < 0.8,
            durability=durability,
        )
        if self.workload.rich is not None:
            self.workload.rich.has_failed = lambda name: self.oracle.relations.failed[name]
        self.lock = Lock(works=chance.random() < 0.7)
        self.trouble = None if calm else Trouble(self, theme)
        self.world.later(0.0, self.start_leader)

    def _host(self, cores: int) -> Host:
        totals = Totals(cores=cores, memory=8 * GB, disk=1 << 40)
        host = Host(
            self.world, self.disk, self.oracle, self.workload.body, totals,
            store=ROOT, log_directory=lambda _: self.directory,
        )  # fmt: skip
        host.may_run_again = self._may_run_again
        return host

    def _may_run_again(self, attempt: Attempt) -> bool:
        return attempt.form == "service" or self.oracle.relations.added[attempt.job].checkpoint

    def _batch(self, cores: int, ahead: int) -> Batch:
        chains = self.world.likely(0.8)
        capacity = Capacity(cores=cores, memory=8 * GB, disk=1 << 40, ahead=ahead, chains=chains)
        return Batch(self.world, self.oracle, self.workload.body, capacity)

    def _connect(self, process: Process, epoch: int) -> Awaitable[Session]:
        if isinstance(self.system, Host):
            return self.system.connect(process, RUN, epoch)
        return self.system.connect(process, epoch)

    # What happens to the run.

    def wish(self, opened: Opened, what: str) -> None:
        """The user wishes something of a leader."""
        self.world.say("user", f"wishes: {what}")
        self._wishes.setdefault(opened, []).append([what, 0])
        opened.leader.request(Request(run=RUN, what=what, epoch=opened.state.epoch, by="user"))

    def power_cut(self) -> None:
        """Leaders die, and what was not synced; on this host the agent and its attempts, too.

        With relaxed durability, what was acknowledged may be gone.
        """
        self.world.say("disk", "power cut")
        for leader in list(self.leaders):
            leader.kill()
        if isinstance(self.system, Host):
            self.system.power_cut()
        self.disk.power_cut()
        if self.settings.durability == "relaxed":
            self.oracle.forget(len(self.events()))
            self.system.acknowledged.clear()
            if self.over and self.oracle.state.outcome != "succeeded":
                self.over = False
                self.world.soon(3.0, self._carry_on)

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
        self._lives += 1
        process = Process(self.world, f"leader {self._lives}", disk=self.disk, pid=self._lives)
        process.on_end = lambda: self._ended(process)
        self.leaders.append(process)
        self.world.say(process.name, "starts, to take over" if take_over else "starts")
        process.run(self._lead(process, take_over=take_over))

    async def _lead(self, process: Process, *, take_over: bool) -> None:
        opened = await self._open(process, take_over=take_over)
        self._builds_upon(opened)
        self.world.say(process.name, f"carries on after event {len(self.oracle.known)}")
        if isinstance(opened, Ended):
            return
        self.opened[process] = opened
        self._watch_log(process, opened)
        await opened.lead(lambda events: self._published(process, opened, events))

    def _builds_upon(self, opened: Opened | Ended) -> None:
        """What a leader has found counts. What others write that have taken over meanwhile does not: it may be void."""
        events = self.events()
        if not isinstance(opened, Ended) and events[-1].epoch > opened.state.epoch:
            events = [event for event in events if event.epoch <= opened.state.epoch]
            if len(events) < len(self.oracle.known):
                return
        self.oracle.adopt(events)

    def _watch_log(self, process: Process, opened: Opened) -> None:
        """Hear of events when they are thought of: waits begin then."""
        log = opened.leader._log
        stage = log.stage

        def staged(events: Sequence[ev.Event]) -> list[ev.Event]:
            stamped = stage(events)
            for event in stamped:
                self.oracle.relations.staged(process, event, self.world.now)
            return stamped

        log.stage = staged  # type: ignore[method-assign]

    async def _open(self, process: Process, *, take_over: bool) -> Opened | Ended:
        machine, lock = process.machine, self.lock.of(process)
        state = fold_quickly(self.directory, files=machine.files)
        if state.planned is None:
            return await self._begin(process)
        return await reopen(
            self.directory,
            lock,
            state,
            lambda epoch: self._connect(process, epoch),
            self.settings,
            take_over=take_over,
            by="user",
            machine=machine,
            cache=lambda _: KnownCalls(self, process),
        )

    async def _begin(self, process: Process) -> Opened:
        if self.disk.list(self.directory):
            self._tries += 1
            self.system.forget_everything()
            if self.settings.durability == "relaxed":
                self.oracle.forget(0)
        session = await self._connect(process, 1)
        first = [ev.Created(run=RUN), *planned(self.workload.plan(), rules(self.settings))]
        return await commit_first(
            RUN,
            self.directory,
            self.lock.of(process),
            session,
            settings=self.settings,
            events=first,
            machine=process.machine,
            cache=lambda _: KnownCalls(self, process),
        )

    def _published(self, process: Process, opened: Opened, events: list[ev.Event]) -> None:
        process.check()
        self.world.say(process.name, "commits " + "; ".join(map(shown, events)))
        self.oracle.published(events, opened.state)
        self._heard(opened, [event.what for event in events if isinstance(event, ev.Requested)])

    def _heard(self, opened: Opened, wishes: list[str]) -> None:
        """A wish that was told to a leader is recorded by its next turn, or the one after it."""
        for wish in list(self._wishes.get(opened, ())):
            if wish[0] in wishes:
                wishes.remove(wish[0])
                self._wishes[opened].remove(wish)
            elif wish[1] >= 2:
                self.oracle.violations.append(f"a leader was told to {wish[0]}, and has not recorded it")
            else:
                wish[1] += 1

    def _ended(self, process: Process) -> None:
        """A leader has ended, somehow."""
        self.leaders.remove(process)
        self.opened.pop(process, None)
        self.lock.died(process)
        error = _error(process)
        self.world.say(process.name, f"ends: {error!r}" if error else "ends")
        if error is not None and not isinstance(error, _ALLOWED):
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

    def tell(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Until the run has succeeded; `meanwhile` is called between any two steps. Raises `Violation`."""
        while not self.over:
            meanwhile()
            if not self.world.step():
                self.oracle.violations.append("nothing will ever happen again")
            if self.world.steps > MOST_STEPS or self.world.now > CALM + PATIENCE:
                self.oracle.violations.append(f"the run does not end: {self._why()}")
            if isinstance(self.system, Host):
                self.oracle.violations += self.system.check()
            self._judge()
        self._check_end()

    def _judge(self) -> None:
        if self.oracle.violations:
            raise Violation("; ".join(self.oracle.violations[:5]))

    def _why(self) -> str:
        state = self.oracle.state
        waiting = [row for row in state.jobs.values() if row.state in LIVE or row.id in state.ready]
        return "; ".join(f"{row.label}: {row.state}, {explain(state, row)}" for row in waiting[:5])

    def _check_end(self) -> None:
        events = self.events()
        self.oracle.adopt(events)
        rich = self.workload.rich
        self.oracle.check_end(self.workload.names, rich.reused if rich is not None else set())
        self._judge()  # of a log that is not what it was, there may be no result
        values = Supply(lambda seq: events[seq - 1]).values(self.oracle.state, [WORKFLOW])
        result = self.workload.read(values)
        if result != self.workload.expected:
            self.oracle.violations.append(f"the result is {result}, and should be {self.workload.expected}")
        self._judge()


def _either(said: bool | None, by_chance: bool) -> bool:
    return by_chance if said is None else said


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
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
