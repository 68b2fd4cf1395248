"""A simulated host: an agent when one is wanted, the bodies that it runs, and the connections to its leaders.

The agent's own logic, its journal, the protocol and the session are the real ones; sockets, processes and the clock are
not. What goes wrong is decided by whoever has the host: `kill_agent`, `doom_agent`, `stop_agent`, `terminate_agent`,
`hang_up`, `power_cut`. A full or failing disk is the disk's matter.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from orch.adapters.contract import RunInfo
from orch.adapters.local import Dial, Link, LocalSession
from orch.agent.model import Task
from orch.agent.totals import Totals
from orch.attempt import Attempt, Outcome, Reason
from simulator.agent import AgentLife
from simulator.bodies import Body
from simulator.disk import Disk
from simulator.process import Process
from simulator.wire import LeaderEnd
from simulator.world import World


class Observer(Protocol):
    """Who watches (`simulator.oracle.Oracle`). `violations` is for what must never happen."""

    violations: list[str]

    def submitted(self, attempt: Attempt) -> None:
        """A leader hands it over."""

    def acknowledged(self, key: str) -> None:
        """A leader says that it needs the outcome no more."""

    def body_started(self, attempt: Attempt) -> None:
        """It begins to run."""

    def body_ended(self, key: str, outcome: Outcome | None) -> None:
        """It does not run any more. `outcome`: of a body that returned; None: it was killed."""


@dataclasses.dataclass
class Weather:
    """Chances between 0 and 1, and delays in seconds.

    `delay`    the most that a message, a fork or a kill takes
    `longest`  the most that a body runs
    `endless`  that a body runs until it is ended
    `slow`     the most that the store takes for what a body leaves behind
    `ends`     that an attempt ends for this reason instead of well
    `cannot`   that an attempt cannot be started
    `defers`   that it leaves something to be done after its end
    `dies`     that a new agent dies soon, in the middle of whatever it does then
    `forsakes` that a service which is up is lost
    """

    delay: float = 0.01
    longest: float = 1.0
    endless: float = 0.0
    slow: float = 0.0
    ends: Mapping[Reason, float] = dataclasses.field(default_factory=dict)
    cannot: float = 0.0
    defers: float = 0.0
    dies: float = 0.0
    forsakes: float = 0.0


class Host:
    """`body`: what an attempt does at its end. `log_directory`: where the log of a run is.

    `agent`     the one that lives, if one does
    `bodies`    those that run, by pid
    `settled`   keys of attempts that are over, as the journal says; while there is power, they never run again
    `finished`  runs and numbers of jobs that have come to a good end, as it says: no later attempt of theirs begins
    `may_run_again` says of which jobs that is nothing new
    `deferred`  what attempts have left to be done after their end: keys, with the pids of their bodies; in files
    `defers`    all that ever did so, and `did` for which it was done
    `troubles`  what agents have died of by themselves: each is a defect
    """

    def __init__(
        self,
        world: World,
        disk: Disk,
        observer: Observer,
        body: Callable[[Attempt], Outcome],
        totals: Totals,
        *,
        store: str,
        log_directory: Callable[[str], Path],
        name: str = "here",
    ) -> None:
        self.world = world
        self.disk = disk
        self.observer = observer
        self.body = body
        self.totals = totals
        self.store = store
        self.name = name
        self.weather = Weather()
        self.journal = Path(store) / "agents" / name / "journal"
        self.agent: AgentLife | None = None
        self.bodies: dict[int, Body] = {}
        self.acknowledged: set[str] = set()
        self.settled: set[str] = set()
        self.finished: set[tuple[str, int]] = set()
        self.may_run_again: Callable[[Attempt], bool] = lambda _: False
        self.deferred: dict[str, int] = {}
        self.defers: set[str] = set()
        self.did: set[str] = set()
        self.troubles: list[Exception] = []
        self.boots = 1
        self.booted = 0.0
        self._log_directory = log_directory
        self._pids = 100
        self._ends: dict[Process, list[LeaderEnd]] = {}

    # Leaders.

    async def connect(self, process: Process, run: str, epoch: int) -> LocalSession:
        """A session of a leader on this host. Raises `Fenced` and `AdapterError`."""
        self._watch(process)
        info = RunInfo(run, epoch, self.store, {})
        session = WatchedSession(self, info, lambda each, make_link: self._dial(process, each, make_link))
        await session.connect()
        return session

    async def _dial(self, process: Process, info: RunInfo, make_link: Callable[[], Link]) -> tuple[str, Link]:
        await self._a_moment()
        process.check()
        agent = self.agent or self._start()
        await self._a_moment()
        process.check()
        link = make_link()
        end = LeaderEnd(process, link)
        agent.connect(process, end)
        self._ends[process].append(end)
        link.connection_made(end)
        return f"/runtime/{self.name}", link

    async def _a_moment(self) -> None:
        await asyncio.sleep(self.world.chance.uniform(0, self.weather.delay))  # virtual seconds

    def _watch(self, process: Process) -> None:
        """The kernel hangs up for a process that ends."""
        if process in self._ends:
            return
        self._ends[process] = []
        known = process.on_end

        def ended() -> None:
            for end in self._ends.pop(process):
                end.died()
            known()

        process.on_end = ended

    # Agents.

    def _start(self) -> AgentLife:
        doom = self.world.chance.randint(1, 100) if self.world.likely(self.weather.dies) else 0
        self.agent = found = AgentLife(self, doom)
        found.begin()
        return found

    def latest_epoch(self, run: str) -> int:
        """The highest epoch that has claimed a segment of the run's log."""
        names = self.disk.list(self._log_directory(run))
        return max((int(name.split(".")[0]) for name in names if name.split(".")[0].isdigit()), default=0)

    def next_pid(self) -> int:
        """For a new process."""
        self._pids += 1
        return self._pids

    def do_deferred(self, key: str) -> None:
        """What an attempt has left to be done is done; once more, if the agent dies before its file is gone."""
        self.did.add(key)
        if not self.world.likely(0.1):
            self.deferred.pop(key, None)
        elif self.agent is not None:
            self.agent.kill()

    def forgotten(self, pid: int) -> list[str]:
        """Has anything been left by bodies that are over, before the present agent came? `pid`: of a new body."""
        began = self.agent.pid if self.agent is not None else pid
        return [key for key, body in self.deferred.items() if body < began]

    def settle(self, task: Task) -> None:
        """The journal says how an attempt ended."""
        self.settled.add(task.key)
        if task.key in self.deferred:
            self.observer.violations.append(f"{task.key} is said to be over, and what it has deferred was not done")
        again = task.attempt.survey or self.may_run_again(task.attempt)
        if task.outcome is not None and task.outcome.reason is Reason.FINISHED and not again:
            self.finished.add((task.attempt.run, task.attempt.job))

    def misfortune(self, attempt: Attempt) -> Outcome | None:
        """How an attempt ends that has no luck."""
        for reason, chance in self.weather.ends.items():
            if self.world.likely(chance):
                return Outcome(key=attempt.key, reason=reason, message="by chance")
        return None

    # What goes wrong.

    def kill_agent(self) -> None:
        """SIGKILL."""
        if self.agent is not None:
            self.agent.kill()

    def doom_agent(self, most: int = 40) -> None:
        """It dies at one of its next steps."""
        if self.agent is not None:
            self.agent.doom = self.world.chance.randint(1, most)

    def terminate_agent(self) -> None:
        """SIGTERM."""
        if self.agent is not None:
            self.agent.terminate()

    def stop_agent(self, most: float = 20.0) -> None:
        """SIGSTOP, and SIGCONT after `most` seconds at most."""
        agent = self.agent
        if agent is not None:
            self.world.say("agent", "is stopped")
            agent.stopped = True
            self.world.soon(most, lambda: setattr(agent, "stopped", False))

    def hang_up(self) -> None:
        """A leader loses its connection, although both sides live."""
        ends = [end for each in self._ends.values() for end in each if not end.is_closing()]
        if ends:
            end = self.world.chance.choice(ends)
            self.world.say("host", "hangs up")
            end.wire.cut()
            end.over()

    def power_cut(self) -> None:
        """Agent and bodies are gone at once. Leaders on this host, and its disk, are for the caller."""
        self.kill_agent()
        for body in list(self.bodies.values()):
            body.kill()
        self.settled.clear()
        self.finished.clear()
        self.boots += 1
        self.booted = self.world.now

    def forget_everything(self) -> None:
        """Another run, with keys like the first one's, takes its place."""
        self.power_cut()
        self.acknowledged.clear()
        if self.journal in self.disk.names:
            self.disk.unlink(self.journal)
            self.disk.sync_dir(self.journal.parent)

    def check(self) -> list[str]:
        """What is wrong: an agent that died by itself, or more promised and used than there is."""
        found = [f"an agent has died of {error!r}" for error in self.troubles]
        lost = self.defers - self.did - self.deferred.keys()
        if lost:
            found.append(f"what these have deferred is lost: {sorted(lost)}")
        wanted = [body.attempt.resources for body in self.bodies.values()]
        cores, memory = sum(each.cores for each in wanted), sum(each.memory for each in wanted)
        if cores > self.totals.cores + 1e-9 or memory > self.totals.memory:
            found.append(f"bodies use {cores} cores and {memory} bytes; there are {self.totals}")
        return found


class WatchedSession(LocalSession):
    """The real one; the oracle hears what the leader says."""

    def __init__(self, host: Host, info: RunInfo, dial: Dial) -> None:
        super().__init__(info, dial)
        self._host = host
        self._name = info.run
        self._epoch = info.epoch

    @property
    def _leads(self) -> bool:
        """Nobody listens to a leader that has been superseded, whatever it says."""
        return self._host.latest_epoch(self._name) <= self._epoch

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts if self._leads else ():
            self._host.observer.submitted(attempt)
            if attempt.key in self._host.acknowledged:
                self._host.observer.violations.append(f"{attempt.key} is handed over again, after its acknowledgement")
        await super().submit(attempts)

    async def acknowledge(self, keys: Sequence[str]) -> None:
        for key in keys if self._leads else ():
            self._host.observer.acknowledged(key)
            self._host.acknowledged.add(key)
        await super().acknowledge(keys)
