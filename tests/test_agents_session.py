"""A session over several agents: hosts that are cut off, come back, stay away; leaders that die."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from support.agents import Lab, Signal, View
from support.hosts import ToyHost, opened

from orch.adapters.agents.host import Refusal
from orch.adapters.agents.session import AgentsSession
from orch.adapters.contract import Capacity, Finished, Queued, RunInfo, Said, Started, Unknown, fits
from orch.agent import protocol
from orch.attempt import Attempt, Reason
from orch.bus.events import Resources
from orch.errors import AdapterError, Fenced
from orch.store import layout


class Site:
    """A leader's store, and hosts."""

    def __init__(self, root: Path, cores: Sequence[float]) -> None:
        self.lab = Lab(root / "leader")
        self.hosts = [ToyHost(root, f"h{number}", each) for number, each in enumerate(cores, 1)]
        self.views: list[View] = []

    def info(self, epoch: int = 1, **changes: object) -> RunInfo:
        return self.lab.info("run", epoch, **changes)

    async def open(self, epoch: int = 1, *, lost_after: float = 60.0, find: bool = True, **changes: object) -> View:
        session = await opened(self.info(epoch, **changes), self.hosts, lost_after)
        view = View(self.lab, session, "run")
        self.views.append(view)
        if find:
            await session.find([])
        return view

    def begin(self, epoch: int) -> None:
        """A leader of that epoch has claimed the log."""
        log = Path(self.lab.store.root, layout.log_dir("run"))
        log.mkdir(parents=True, exist_ok=True)
        (log / f"{epoch:06d}.events.jsonl").touch()

    async def close(self) -> None:
        for view in self.views:
            with contextlib.suppress(AdapterError, Fenced):
                await view.close()
        for host in self.hosts:
            host.lab.views = [View(host.lab, session, "run") for session in host.sessions[-1:]]
            await host.lab.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    found = Site(tmp_path, [2, 1])
    yield found
    await found.close()


def waiting(view: View, held: Signal, word: str = "", **changes: object) -> Attempt:
    """An attempt that runs until a line is written to `held`."""
    return view.shell(f"read x < {held.path}; echo {word}", **changes)


def release(held: Signal, count: int = 1) -> None:
    """Let `count` of them end. Each reads a pipe of its own: a line goes to one reader only."""
    for _ in range(count):
        Path(held.path).write_bytes(b"go\n")


def host_of(view: View, attempt: Attempt) -> str:
    """The host that has said that it has it."""
    return next(each.id for each in view.updates if isinstance(each, Queued | Started) and each.key == attempt.key)


async def test_attempts_run_where_there_is_room(site: Site, tmp_path: Path) -> None:
    view = await site.open()
    held = [Signal(tmp_path / f"held{number}") for number in range(3)]
    attempts = [waiting(view, each, str(number)) for number, each in enumerate(held)]
    more = [view.shell("echo more") for _ in range(2)]  # one of them waits on each host
    last = view.shell("echo last")
    await view.submit(*attempts, *more, last)
    for each in attempts:
        await view.started(each)
    assert sorted(host_of(view, each) for each in attempts) == ["h1", "h1", "h2"]
    assert "waits for a host with room" in await view.session.describe(last.key)
    release(held[0])
    assert view.result(await view.outcome(attempts[0])).stdout == "0\n"
    assert (await view.outcome(last)).reason is Reason.FINISHED
    for pipe in held[1:]:
        release(pipe)
    for each in attempts[1:]:
        assert (await view.outcome(each)).reason is Reason.FINISHED


async def test_what_waits_on_a_host_runs_elsewhere_once_there_is_room(site: Site, tmp_path: Path) -> None:
    view = await site.open()
    held = [Signal(tmp_path / f"held{number}") for number in range(3)]
    large, small = waiting(view, held[0], cores=2), waiting(view, held[1])
    await view.submit(large, small)
    await view.started(large)
    await view.started(small)
    queued = [waiting(view, held[2]), waiting(view, held[2])]
    await view.submit(*queued)
    for each in queued:
        assert isinstance(await view.standing(each), Queued)
    places = {host_of(view, each): each for each in queued}
    assert sorted(places) == ["h1", "h2"]
    release(held[1])
    await view.started(places["h2"])
    release(held[2])
    started = await view.started(places["h1"])
    assert started.id == "h2"
    release(held[2])
    release(held[0])
    for each in (large, *queued):
        assert (await view.outcome(each)).reason is Reason.FINISHED


async def test_all_hosts_are_one_but_an_attempt_gets_one_of_them(site: Site) -> None:
    view = await site.open()
    capacity = view.session.capacity()
    assert capacity.cores == 3
    assert not fits(Resources(cores=2), capacity)
    assert "wanted 3, available 2" in fits(Resources(cores=3), capacity)
    await view.session.limit(1, 0, 0)
    assert view.session.capacity().cores == 1
    assert view.session.capacity().beyond is not None


async def test_a_limit_of_the_run_holds_for_all_hosts_together(site: Site, tmp_path: Path) -> None:
    view = await site.open(cores=1)
    held, said = Signal(tmp_path / "held"), Signal(tmp_path / "said")
    attempts = [view.shell(f"echo . > {said.path}; read x < {held.path}") for _ in range(3)]
    await view.submit(*attempts)
    for _ in attempts:
        await said.wait(2)
        assert not (await said_more(said))
        release(held)
    for each in attempts:
        await view.outcome(each)


async def said_more(said: Signal) -> bytes:
    """What has come to a signal without waiting for it."""
    try:
        return os.read(said._descriptor, 100)
    except BlockingIOError:
        return b""


async def test_a_cut_host_goes_on_and_is_collected(site: Site, tmp_path: Path) -> None:
    view = await site.open()
    held, done = Signal(tmp_path / "held"), Signal(tmp_path / "done")
    attempt = view.shell(f"echo . > {done.path}; read x < {held.path}; echo ran > {done.path}", cores=2)
    await view.submit(attempt)
    await done.wait(2)
    site.hosts[0].cut()
    await view.until(lambda each: isinstance(each, Said) and "h1" in each.text)
    assert "away" in await view.session.describe(attempt.key)
    release(held)
    assert await done.wait(4) == b"ran\n"
    assert not view.outcomes
    site.hosts[0].mend()
    assert (await view.outcome(attempt)).reason is Reason.FINISHED
    assert any(isinstance(each, Said) and "back" in each.text for each in view.updates)


async def test_a_host_that_stays_away_has_lost_what_it_had_and_ends_it_when_it_is_back(
    site: Site, tmp_path: Path
) -> None:
    view = await site.open(lost_after=0.3)
    held = Signal(tmp_path / "held")
    attempt = waiting(view, held, cores=2)
    await view.submit(attempt)
    await view.started(attempt)
    site.hosts[0].cut()
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.LOST
    assert "h1 could not be reached" in outcome.message
    assert view.session.capacity().cores == 1
    small = view.shell("echo small")
    assert (await view.run_one(small)).reason is Reason.FINISHED
    assert site.hosts[0].lab.marked()
    site.hosts[0].mend()
    await view.until(lambda each: isinstance(each, Said) and "h1 is back" in each.text)
    assert (await view.run_one(view.shell("echo large", cores=2))).reason is Reason.FINISHED
    assert view.session.capacity().cores == 3
    while site.hosts[0].lab.marked():
        await asyncio.sleep(0.01)


async def test_what_a_host_never_heard_of_is_given_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    view = await site.open()
    link, kept = site.hosts[0].links[0], list[protocol.FromLeader]()
    monkeypatch.setattr(link, "send", kept.append)  # the connection takes it, and it never arrives
    attempt = view.shell("echo once", cores=2)
    await view.submit(attempt)
    async with asyncio.timeout(20):
        while not kept:
            await asyncio.sleep(0.01)
    site.hosts[0].cut()
    site.hosts[0].mend()
    assert (await view.outcome(attempt)).reason is Reason.FINISHED


async def test_the_next_leader_finds_each_where_it_is(site: Site, tmp_path: Path) -> None:
    site.begin(1)
    first = await site.open()
    held = Signal(tmp_path / "held")
    done, running = first.shell("echo done"), waiting(first, held, "ran", cores=2)
    await first.submit(done, running)
    await first.started(running)
    await first.outcome(done, acknowledge=False)
    await first.close()
    site.views.clear()
    site.begin(2)
    second = await site.open(2, find=False)
    await second.session.find([done.key, running.key, "run.99.1"], 7)
    assert isinstance(await second.standing(done), Finished)
    assert isinstance(await second.standing(running), Started)
    unknown = await second.until(lambda each: isinstance(each, Unknown))
    assert unknown == Unknown("run.99.1", 7)
    release(held)
    assert (await second.outcome(running)).reason is Reason.FINISHED


async def test_what_is_not_named_is_ended(site: Site, tmp_path: Path) -> None:
    first = await site.open()
    held = Signal(tmp_path / "held")
    running = waiting(first, held)
    await first.submit(running)
    await first.started(running)
    await first.close()
    site.views.clear()
    await site.open(2)
    while any(host.lab.marked() for host in site.hosts):
        await asyncio.sleep(0.01)


async def test_a_leader_does_not_wait_for_a_host_that_is_away(site: Site, tmp_path: Path) -> None:
    first = await site.open()
    held = Signal(tmp_path / "held")
    running = waiting(first, held, "ran", cores=2)
    await first.submit(running)
    await first.started(running)
    await first.close()
    site.views.clear()
    site.hosts[0].cut()
    second = await site.open(2, find=False)
    await second.session.find([running.key], 1)
    assert isinstance(await second.standing(running), Queued)
    site.hosts[0].mend()
    await second.started(running)
    release(held)
    assert (await second.outcome(running)).reason is Reason.FINISHED


async def test_a_leader_that_was_superseded_hands_nothing_over(site: Site) -> None:
    site.begin(1)
    view = await site.open()
    site.begin(2)
    attempt = view.shell("echo never")
    await view.submit(attempt)
    with pytest.raises(Fenced, match="led by epoch 2"):
        await view.started(attempt)
    assert isinstance(view.session, AgentsSession)
    assert view.session._places.read([attempt.key])  # so the later leader asks there


async def test_a_later_leader_fences_the_earlier_on_each_host(site: Site) -> None:
    first = await site.open()
    await site.open(2)
    with pytest.raises(Fenced):
        await first.until(lambda _: False)


async def test_attempts_in_the_line_are_cancelled_at_once(site: Site, tmp_path: Path) -> None:
    view = await site.open()
    held = Signal(tmp_path / "held")
    big = [waiting(view, held, cores=2) for _ in range(3)]  # one runs, one waits on the host
    await view.submit(*big)
    await view.started(big[0])
    assert "waits for a host with room" in await view.session.describe(big[2].key)
    await view.session.cancel([each.key for each in reversed(big)])
    for each in big:
        assert (await view.outcome(each)).reason is Reason.KILLED


async def test_one_that_is_cancelled_on_a_cut_host_ends_when_it_is_back(site: Site, tmp_path: Path) -> None:
    view = await site.open()
    held = Signal(tmp_path / "held")
    attempt = waiting(view, held, cores=2)
    await view.submit(attempt)
    await view.started(attempt)
    site.hosts[0].cut()
    await view.until(lambda each: isinstance(each, Said))
    await view.session.cancel([attempt.key])
    site.hosts[0].mend()
    assert (await view.outcome(attempt)).reason is Reason.KILLED


async def test_a_run_goes_on_without_a_host_that_refuses(site: Site) -> None:
    site.hosts[0].refusal = Refusal("its key has changed")
    view = await site.open()
    said = await view.until(lambda each: isinstance(each, Said))
    assert said == Said("host h1: its key has changed")
    assert (await view.run_one(view.shell("echo ran"))).reason is Reason.FINISHED


async def test_no_host_at_all_is_an_error_that_names_each(site: Site) -> None:
    site.hosts[0].refusal = Refusal("its key has changed")
    site.hosts[1].refusal = AdapterError("no route to it")
    with pytest.raises(AdapterError, match=r"(?s)h1: its key has changed.*h2: no route to it"):
        await site.open()


async def test_hosts_come_and_go(site: Site, tmp_path: Path) -> None:
    second = site.hosts[1]
    view = await site.open()
    session = view.session
    assert isinstance(session, AgentsSession)
    session.drain("h2")
    assert session.capacity().cores == 2
    held = Signal(tmp_path / "held")
    attempts = [waiting(view, held) for _ in range(3)]
    await view.submit(*attempts)
    await view.started(attempts[1])
    assert session.idle("h2")
    await session.remove("h2", "its time is over")
    session.add(second)
    await view.started(attempts[2])
    assert session.capacity().cores == 3
    await session.remove("h2", "its time is over")
    outcome = await view.outcome(attempts[2])
    assert outcome.reason is Reason.LOST
    assert outcome.message == "its time is over"
    second.sessions[:] = second.sessions[-1:]
    await session.cancel([each.key for each in attempts[:2]])
    for each in attempts[:2]:
        await view.outcome(each)


def test_capacity_of_one_place_is_as_before() -> None:
    assert not fits(Resources(cores=2), Capacity(2, 100, 100))
