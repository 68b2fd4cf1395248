"""The real agent and the real local session on a simulated host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulator.disk import Disk
from simulator.host import Host, Weather
from simulator.process import Process
from simulator.world import World

from orch.adapters.contract import Finished, Queued, Started, Unknown, Update
from orch.adapters.local import LocalSession
from orch.agent.totals import Totals
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bus.events import EMPTY, Blob, Resources
from orch.errors import AdapterError, Fenced

RUN = "run"
SEEDS = range(15)
LOG = Path("/store/runs/run/log")


class Lab:
    """A host, leaders on it, and what its bodies did: `running` now, `ran` to their end."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.violations: list[str] = []
        self.running: Counter[str] = Counter()
        self.ran: Counter[str] = Counter()
        self.world = World(seed)
        self.disk = Disk(self.world)
        self.host = Host(
            self.world, self.disk, self, self._body, Totals(2.0, 100, 100), store="/store", log_directory=lambda _: LOG
        )
        self.host.weather = weather or Weather(delay=0.1, longest=2.0)
        self.leaders = 0

    def submitted(self, attempt: Attempt) -> None:
        """Anything may be submitted."""

    def acknowledged(self, key: str) -> None:
        """And acknowledged."""

    def body_started(self, attempt: Attempt) -> None:
        self.running[attempt.key] += 1
        if self.running[attempt.key] > 1:
            self.violations.append(f"{attempt.key} runs twice")

    def body_ended(self, key: str, outcome: Outcome | None) -> None:
        self.running[key] -= 1

    def _body(self, attempt: Attempt) -> Outcome:
        self.ran[attempt.key] += 1
        data = f"{attempt.key} {self.ran[attempt.key]}".encode()
        return Outcome(key=attempt.key, reason=Reason.FINISHED, value=Blob(data=data, size=len(data)))

    def lead(self, epoch: int = 1) -> Leader:
        """A leader connects."""
        found = Leader(self, epoch)
        self.until(lambda: found.session is not None or found.error is not None)
        return found

    def until(self, reached: Callable[[], bool]) -> None:
        """Let things happen until something has."""
        for _ in range(100_000):
            if reached():
                return
            assert self.world.step(), "nothing will ever happen again"
            assert not self.violations + self.host.check()
        raise AssertionError("\n".join(self.world.lines[-30:]))

    def wait(self, seconds: float) -> None:
        """Let things happen for so long."""
        over: list[bool] = []
        self.world.later(seconds, lambda: over.append(True))
        self.until(lambda: bool(over))


class Leader:
    """A leader that takes everything in, and hands over again what nobody knows. `patient`: it does so."""

    def __init__(self, lab: Lab, epoch: int) -> None:
        self.lab = lab
        self.epoch = epoch
        self.session: LocalSession | None = None
        self.error: BaseException | None = None
        self.updates: list[Update] = []
        self.outcomes: dict[str, Outcome] = {}
        self.attempts: dict[str, Attempt] = {}
        self.patient = True
        self.ask = 0
        lab.leaders += 1
        self.process = Process(lab.world, f"leader {lab.leaders}", disk=lab.disk, pid=lab.leaders)
        self.process.run(self._main())

    async def _main(self) -> None:
        while self.error is None:
            try:
                await self._lead()
            except Fenced as error:
                self.error = error
            except AdapterError:  # its user carries on
                self.session = None

    async def _lead(self) -> None:
        session = self.session = await self.lab.host.connect(self.process, RUN, self.epoch)
        if self.attempts:
            self.ask += 1
            await session.find(list(self.attempts), self.ask)
        async for batch in session.updates():
            self.updates += batch
            for each in batch:
                await self._heard(session, each)

    async def _heard(self, session: LocalSession, update: Update) -> None:
        if isinstance(update, Finished):
            if self.outcomes.setdefault(update.key, update.outcome) != update.outcome:
                self.lab.violations.append(f"the outcome of {update.key} has changed")
            if self.lab.running[update.key]:
                self.lab.violations.append(f"{update.key} is said to be over, and runs")
        elif isinstance(update, Unknown) and self.patient and update.key not in self.outcomes:
            if update.ask and update.ask == self.ask:
                await session.submit([self.attempts[update.key]])
            elif not update.ask:
                self.ask += 1
                await session.find(list(self.attempts), self.ask)  # what it does not name is forgotten

    def do(self, what: Callable[[LocalSession], Coroutine[Any, Any, Any]]) -> None:
        """Have it ask for something."""
        assert self.session is not None
        self.process.loop.create_task(what(self.session))

    def submit(self, *attempts: Attempt) -> None:
        self.attempts.update({attempt.key: attempt for attempt in attempts})
        self.do(lambda session: session.submit(attempts))

    def acknowledge(self, *keys: str) -> None:
        self.do(lambda session: session.acknowledge(keys))

    def find(self, *attempts: Attempt) -> None:
        self.attempts.update({attempt.key: attempt for attempt in attempts})
        self.ask += 1
        self.do(lambda session: session.find([attempt.key for attempt in attempts], self.ask))

    def outcome(self, key: str) -> Outcome:
        """Wait for it."""
        self.lab.until(lambda: key in self.outcomes)
        return self.outcomes[key]

    def hear_again(self) -> None:
        """Wait until every outcome has come once more."""
        told = len(self.updates)
        self.lab.until(
            lambda: {each.key for each in self.updates[told:] if isinstance(each, Finished)} >= set(self.outcomes)
        )

    def standing(self, key: str) -> Update:
        """Wait for the first that is said of an attempt."""
        self.lab.until(lambda: any(update.key == key for update in self.updates))
        return next(update for update in self.updates if update.key == key)


def attempt(job: int, cores: float = 1.0, walltime: float = 0.0, number: int = 1) -> Attempt:
    """Any."""
    wanted = Resources(cores=cores, walltime=walltime)
    return Attempt(
        key=f"run.{job}.{number}", run=RUN, job=job, attempt=number, epoch=1, kind="", name="", form="fork", body=EMPTY,
        resources=wanted,
    )  # fmt: skip


def journal(lab: Lab) -> bytes:
    return lab.disk.get(lab.host.journal) or b""


@pytest.mark.parametrize("seed", SEEDS)
def test_attempts_run_once_and_their_outcomes_are_kept_until_they_are_acknowledged(seed: int) -> None:
    lab = Lab(seed)
    leader = lab.lead()
    attempts = [attempt(job) for job in range(1, 6)]
    leader.submit(*attempts)
    for each in attempts:
        assert leader.outcome(each.key).reason is Reason.FINISHED
        assert each.key.encode() in journal(lab)
    assert {update.key for update in leader.updates if isinstance(update, Started)} == {each.key for each in attempts}
    assert lab.ran == {each.key: 1 for each in attempts}
    leader.acknowledge(*leader.outcomes)
    lab.wait(1.0)
    leader.process.kill()
    lab.until(lambda: lab.host.agent is None)  # it leaves, and empties its journal
    assert b"run." not in journal(lab)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_found_stands_where_it_stands_and_the_rest_is_ended(seed: int) -> None:
    lab = Lab(seed, Weather(delay=0.01, longest=1e9))
    first = lab.lead()
    attempts = [attempt(job) for job in (1, 2, 3, 4)]
    first.submit(*attempts)
    lab.until(lambda: sum(lab.running.values()) == 2 and len(first.updates) >= 4)
    first.process.kill()
    second = lab.lead(epoch=2)
    second.patient = False
    running = [each for each in attempts if lab.running[each.key]]
    queued = next(each for each in attempts if each not in running)
    second.find(running[0], queued, attempt(99))
    assert isinstance(second.standing(running[0].key), Started)
    assert isinstance(second.standing(queued.key), Queued)
    assert second.standing("run.99.1") == Unknown("run.99.1", 1)
    lab.until(lambda: not lab.running[running[1].key])  # it was not named
    lab.until(lambda: lab.running[queued.key] == 1)
    lab.wait(5.0)
    assert not any(update.key == running[1].key for update in second.updates)


@pytest.mark.parametrize("longest", [2.0, 1e9])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_cancelled_ends_killed_unless_it_was_quicker(seed: int, longest: float) -> None:
    lab = Lab(seed, Weather(delay=0.1, longest=longest))
    leader = lab.lead()
    attempts = [attempt(job) for job in range(1, 7)]
    leader.submit(*attempts)
    lab.wait(lab.world.chance.uniform(0, 2.0))
    leader.do(lambda session: session.cancel([each.key for each in attempts]))
    for each in attempts:
        ended_well = leader.outcome(each.key).reason is Reason.FINISHED
        assert ended_well or leader.outcome(each.key).reason is Reason.KILLED
        assert lab.ran[each.key] == ended_well or lab.ran[each.key] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_what_never_ends_is_cancelled_though_the_connection_is_lost_over_it(seed: int) -> None:
    """The agent may have heard nothing of it, or half: it is told again."""
    lab = Lab(seed, Weather(delay=0.1, endless=1.0))
    leader = lab.lead()
    attempts = [attempt(1), attempt(2)]
    leader.submit(*attempts)
    lab.until(lambda: sum(lab.running.values()) == 2)

    async def cancel(session: LocalSession) -> None:
        await session.cancel([each.key for each in attempts])
        lab.host.hang_up()

    leader.do(cancel)
    for each in attempts:
        assert leader.outcome(each.key).reason is Reason.KILLED
    assert not lab.ran


@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_is_up_until_it_is_told_to_stop_though_the_connection_is_lost_over_it(seed: int) -> None:
    lab = Lab(seed)
    leader = lab.lead()
    service = msgspec.structs.replace(attempt(1), form="service", serves=0)
    leader.submit(service)
    lab.until(lambda: any(isinstance(update, Note) and update.kind == "up" for update in leader.updates))
    lab.wait(30.0)
    assert lab.running[service.key]

    async def stop(session: LocalSession) -> None:
        await session.stop_services([service.key])
        lab.host.hang_up()

    leader.do(stop)
    assert leader.outcome(service.key).reason is Reason.FINISHED
    leader.acknowledge(service.key)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_runs_too_long_is_ended(seed: int) -> None:
    lab = Lab(seed, Weather(delay=0.01, longest=1e9))
    leader = lab.lead()
    leader.submit(attempt(1, walltime=3.0))
    assert leader.outcome("run.1.1").reason is Reason.MAXJOBDURATION


@pytest.mark.parametrize("seed", SEEDS)
def test_when_the_agent_dies_what_ran_is_lost_and_what_had_ended_is_told_again(seed: int) -> None:
    lab = Lab(seed, Weather(delay=0.05, longest=3.0))
    leader = lab.lead()
    attempts = [attempt(job) for job in range(1, 6)]
    leader.submit(*attempts)
    lab.until(lambda: len(leader.outcomes) >= 2 and sum(lab.running.values()) > 0)
    done, running = list(leader.outcomes), [key for key, count in lab.running.items() if count]
    lab.host.kill_agent()
    for each in attempts:
        assert leader.outcome(each.key).reason in {Reason.FINISHED, Reason.LOST}
    for key in running:
        assert leader.outcomes[key].reason is Reason.LOST
    ends = Counter(update.key for update in leader.updates if isinstance(update, Finished))
    assert {ends[key] for key in done} == {2}


@pytest.mark.parametrize("heard", range(5))
@pytest.mark.parametrize("seed", SEEDS)
def test_what_ends_while_nobody_leads_is_durable(seed: int, heard: int) -> None:
    """And so is what the last leader had heard of, and not acknowledged."""
    lab = Lab(seed)
    first = lab.lead()
    attempts = [attempt(job) for job in range(1, 5)]
    first.submit(*attempts)
    lab.until(lambda: len(first.updates) >= 4 and len(first.outcomes) >= heard)
    first.process.kill()
    lab.until(lambda: len(lab.host.settled) == 4)
    lab.wait(1.0)  # it has heard that its leader is gone
    assert lab.host.agent is not None, "an agent that leaves syncs everything: that would prove nothing"
    lab.host.power_cut()
    lab.disk.power_cut()
    second = lab.lead(epoch=2)
    second.find(*attempts)
    for each in attempts:
        assert second.outcome(each.key).reason is Reason.FINISHED
    assert lab.ran == {each.key: 1 for each in attempts}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leader_that_is_stopped_hears_it_all_when_it_goes_on(seed: int) -> None:
    lab = Lab(seed)
    leader = lab.lead()
    leader.submit(attempt(1), attempt(2))
    lab.until(lambda: bool(leader.updates))
    leader.process.stop()
    lab.wait(100.0)
    leader.process.go_on()
    assert leader.outcome("run.1.1").reason is leader.outcome("run.2.1").reason is Reason.FINISHED


def test_it_is_seen_when_a_job_runs_that_has_finished() -> None:
    lab = Lab(1)
    leader = lab.lead()
    leader.submit(attempt(1))
    leader.outcome("run.1.1")
    leader.submit(attempt(1, number=2))
    with pytest.raises(AssertionError, match=r"run\.1\.2 runs, and the journal says that its job has finished"):
        leader.outcome("run.1.2")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("calls", [1, 2])
def test_what_is_in_the_journal_is_known_though_the_agent_dies_before_it_can_say_so(seed: int, calls: int) -> None:
    lab = Lab(seed)
    leader = lab.lead()
    leader.submit(attempt(1))
    lab.until(lambda: lab.running["run.1.1"] == 1)
    lab.until(lambda: lab.running["run.1.1"] == 0)
    assert lab.host.agent is not None
    lab.host.agent.doom = calls
    lab.until(lambda: lab.host.agent is None)
    written = lab.host.finished == {("run", 1)}
    assert (leader.outcome("run.1.1").reason is Reason.FINISHED) == written


def test_an_older_leader_is_fenced_by_a_later_one_or_by_the_log() -> None:
    lab = Lab(1)
    old = lab.lead(epoch=1)
    new = lab.lead(epoch=2)
    lab.until(lambda: old.error is not None)
    assert lab.lead(epoch=1).error is not None
    lab.disk.create(LOG / "000003.events.jsonl")
    assert lab.lead(epoch=2).error is not None
    assert new.error is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_disk_loses_nothing_that_was_begun(seed: int) -> None:
    """What cannot be written in the journal may be refused; what has begun ends as if nothing was."""
    lab = Lab(seed)
    leader = lab.lead()
    lab.disk.faults.room = lab.world.chance.randint(0, 500)
    attempts = [attempt(job) for job in range(1, 6)]
    leader.submit(*attempts)
    for each in attempts:
        ran = leader.outcome(each.key).reason is not Reason.ERROR
        assert lab.ran[each.key] == ran
    lab.disk.faults.room = None
    lab.wait(10.0)
    lab.host.kill_agent()  # what did not find room is written by then
    leader.hear_again()
    assert all(count == 1 for count in lab.ran.values())


@pytest.mark.parametrize("calls", range(1, 60))
def test_an_agent_that_dies_at_any_call_of_its_ports_is_replaced(calls: int) -> None:
    lab = Lab(calls, Weather(delay=0.05, longest=1.0))
    leader = lab.lead()
    agent = lab.host.agent
    assert agent is not None
    agent.doom = calls
    attempts = [attempt(job) for job in range(1, 6)]
    leader.submit(*attempts)
    for each in attempts:
        found = leader.outcome(each.key)
        assert found.reason in {Reason.FINISHED, Reason.LOST}
        assert lab.ran[each.key] <= 2  # noted by an agent that died before it could say so, at the most
        assert found.reason is Reason.LOST or lab.ran[each.key] >= 1
    leader.submit(attempt(6))  # the next agent writes on in the journal, whatever the first one has left there
    leader.outcome("run.6.1")
    lab.host.kill_agent()
    leader.hear_again()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_each_attempt_comes_to_one_end(seed: int) -> None:
    weather = Weather(delay=0.3, longest=3.0, cannot=0.05, dies=0.3)
    lab = Lab(seed, weather)
    chance, host = lab.world.chance, lab.host
    leader = lab.lead()
    attempts = [attempt(job, cores=chance.choice([0.5, 1.0, 2.0])) for job in range(1, 15)]
    leader.submit(*attempts)
    for _ in range(12):
        misfortunes = [host.kill_agent, host.doom_agent, host.terminate_agent, host.stop_agent, host.hang_up]
        lab.world.later(chance.uniform(0, 15.0), chance.choice(misfortunes))
    lab.world.later(20.0, lambda: setattr(weather, "dies", 0.0))
    for each in attempts:
        leader.outcome(each.key)
    assert not host.troubles


def test_a_seed_repeats() -> None:
    def told(seed: int) -> tuple[float, list[str], list[Update]]:
        lab = Lab(seed, Weather(delay=0.1, longest=2.0, dies=0.2))
        leader = lab.lead()
        leader.submit(*(attempt(job) for job in range(1, 8)))
        lab.world.later(1.0, lab.host.kill_agent)
        lab.until(lambda: len(leader.outcomes) == 7)
        return lab.world.now, lab.world.lines, leader.updates

    assert told(5) == told(5)
    assert told(5) != told(6)
