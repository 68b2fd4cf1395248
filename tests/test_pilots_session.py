"""Runs on pilots, on a cluster of real processes: leaders and pilots that go away, time that runs out, idleness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.agents import Signal
from support.batchlab import said
from support.pilotlab import PilotLab, pilots_of, until

from orch.adapters.batch import board
from orch.adapters.contract import Said
from orch.adapters.pilots import plan
from orch.attempt import Reason
from orch.errors import UserError


@pytest_asyncio.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PilotLab]:
    monkeypatch.setattr(board, "PATIENCE", 0.5)
    made = PilotLab(tmp_path, nodes=2)
    try:
        yield made
    finally:
        await made.close()


async def test_many_attempts_run_in_few_tasks_and_nothing_stays_behind(lab: PilotLab, tmp_path: Path) -> None:
    view = await lab.open(pilot="nodes=2,cores=2")
    attempts = [view.shell(f"echo {number} >> {tmp_path}/ran; exit {number % 3}") for number in range(40)]
    await view.submit(*attempts)
    codes = [(await view.outcome(attempt)).exit_code for attempt in attempts]
    assert codes == [number % 3 for number in range(40)]
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(40))
    assert 1 <= len(lab.cluster.rows()) <= 2
    await view.close()
    await asyncio.to_thread(lab.cluster.wait, lambda rows: all(row.state == "over" for row in rows))
    assert lab.left() == []


async def test_the_environment_of_the_run_is_there_and_was_not_sent(lab: PilotLab) -> None:
    view = await lab.open()
    outcome = await view.run_one(view.shell("echo $LANG"))
    assert outcome.stdout.data == b"C.UTF-8\n"
    [held] = pilots_of(view)._agents._board.members.values()
    assert held.session._info.environment == {}  # type: ignore[union-attr]


async def test_the_next_leader_finds_pilots_and_what_they_have_done(lab: PilotLab, tmp_path: Path) -> None:
    first = await lab.open()
    there, hold = Signal(tmp_path / "there"), Signal(tmp_path / "hold")
    short = first.shell(f"echo short >> {tmp_path}/ran; exit 3")
    long = first.shell(f"echo long >> {tmp_path}/ran; echo -n x > {there.path}; head -c1 < {hold.path}; exit 4")
    await first.submit(short, long)
    await there.wait()
    await first.outcome(short, acknowledge=False)
    await lab.die(first)
    second = await lab.open(2, find=[short.key, long.key])
    assert (await second.outcome(short)).exit_code == 3
    Path(hold.path).write_bytes(b"x")
    assert (await second.outcome(long)).exit_code == 4
    assert sorted((tmp_path / "ran").read_text().split()) == ["long", "short"]
    assert len(lab.cluster.rows()) == 1
    there.close()
    hold.close()


async def test_what_a_pilot_had_done_counts_though_it_is_over(lab: PilotLab, tmp_path: Path) -> None:
    """It ends while there is no leader: what its journal says is how its attempts ended."""
    first = await lab.open()
    there = Signal(tmp_path / "there")
    ended, running = first.shell("exit 3"), first.shell(f"echo -n x > {there.path}; sleep 1000")
    await first.submit(ended, running)
    await there.wait()
    await first.outcome(ended, acknowledge=False)
    await lab.die(first)
    [row] = lab.pilots()
    lab.cluster.client.cancel([(row.job, row.index)])
    await asyncio.to_thread(lab.cluster.wait, lambda rows: all(row.state == "over" for row in rows))
    second = await lab.open(2, find=[ended.key, running.key])
    assert (await second.outcome(ended)).exit_code == 3
    assert (await second.outcome(running)).reason is Reason.LOST
    there.close()


async def test_a_pilot_that_is_cancelled_costs_nothing_and_another_comes(lab: PilotLab, tmp_path: Path) -> None:
    view = await lab.open()
    there = Signal(tmp_path / "there")
    attempt = view.shell(f"echo -n x > {there.path}; sleep 1000")
    await view.submit(attempt)
    await there.wait()
    [row] = lab.pilots()
    lab.cluster.client.cancel([(row.job, row.index)])
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.LOST
    assert "SIGTERM" in outcome.message
    assert (await view.run_one(view.shell("exit 7"))).exit_code == 7
    there.close()


async def test_a_pilot_that_is_killed_is_noticed_by_what_the_batch_system_says(lab: PilotLab, tmp_path: Path) -> None:
    view = await lab.open(pilot="nodes=1,cores=2")
    there = Signal(tmp_path / "there")
    attempt = view.shell(f"echo -n x > {there.path}; sleep 1000")
    await view.submit(attempt)
    await there.wait()
    [row] = lab.pilots()
    lab.cluster.lose_node(row.host)
    assert (await view.outcome(attempt)).reason is Reason.LOST
    assert (await view.run_one(view.shell("exit 7"))).exit_code == 7
    there.close()


async def test_the_time_of_a_pilot_ends_in_the_middle(
    lab: PilotLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still runs is lost, uncharged; what waits goes to the next one; what would not end in time is not begun."""
    monkeypatch.setattr(plan, "LAST_PART", 0.5)
    view = await lab.open(pilot="nodes=1,cores=1,time=6s")
    there = Signal(tmp_path / "there")
    endless = view.shell(f"echo -n x > {there.path}; sleep 1000", cores=1)
    behind = view.shell("exit 5", cores=1)
    await view.submit(endless)
    await there.wait()
    await view.submit(behind)
    outcome = await view.outcome(endless)
    assert outcome.reason is Reason.LOST
    assert "its time was over" in outcome.message
    assert (await view.outcome(behind)).exit_code == 5
    assert len(lab.cluster.rows()) == 2
    there.close()


async def test_what_would_not_end_in_time_waits_for_the_next_pilot(lab: PilotLab) -> None:
    view = await lab.open(pilot="nodes=1,cores=1,time=8s")
    assert (await view.run_one(view.shell("exit 1", cores=1))).exit_code == 1
    [pilot] = pilots_of(view)._pilots.values()
    member = pilots_of(view)._agents._board.members[pilot.name]
    member.until = asyncio.get_running_loop().time() + 2.0  # it has two seconds left, as far as the leader knows
    assert (await view.run_one(view.shell("exit 2", cores=1, walltime=1.0))).exit_code == 2
    longer = view.shell("exit 3", cores=1, walltime=5.0)
    await view.submit(longer)
    await until(lambda: pilots_of(view)._agents.in_line(longer.key))
    pilot.drain_at = 0.0
    assert (await view.outcome(longer)).exit_code == 3
    assert len(lab.cluster.rows()) == 2


async def test_who_asks_for_more_time_than_a_pilot_has_is_told(lab: PilotLab) -> None:
    view = await lab.open(pilot="nodes=1,cores=1,time=60s")
    outcome = await view.run_one(view.shell("true", walltime=3600.0))
    assert outcome.reason is Reason.ERROR
    assert "time= in --pilot" in outcome.message
    assert lab.cluster.rows() == []


async def test_a_pilot_with_nothing_to_do_is_given_back_and_another_is_asked_for_when_needed(lab: PilotLab) -> None:
    view = await lab.open(pilot="nodes=1,cores=2,idle=500ms")
    assert (await view.run_one(view.shell("exit 1"))).exit_code == 1
    await until(lambda: lab.pilots() == [] and not pilots_of(view)._pilots)
    assert (await view.run_one(view.shell("exit 2"))).exit_code == 2
    assert len(lab.cluster.rows()) == 2
    assert [row.code for row in lab.cluster.rows()][:1] == [0]
    assert said(view) == []


async def test_a_pilot_leaves_by_itself_when_no_leader_comes(lab: PilotLab) -> None:
    view = await lab.open(pilot="nodes=1,cores=2,idle=500ms")
    attempt = view.shell("exit 1")
    await view.submit(attempt)
    await view.outcome(attempt, acknowledge=False)
    await lab.die(view)
    await asyncio.to_thread(lab.cluster.wait, lambda rows: all(row.state == "over" for row in rows))


async def test_pilots_that_come_to_nothing_are_asked_for_ever_less_often(
    lab: PilotLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FIRST_PAUSE", 0.3)
    view = await lab.open(pilot="nodes=2,cores=2", pilot_address="192.0.2.1")  # of no interface here: RFC 5737
    attempt = view.shell("true")
    await view.submit(attempt)
    for number in (1, 2):
        await view.until(
            lambda update: isinstance(update, Said) and f"pilot-1-{number}" in update.text  # noqa: B023 - used at once
        )
    assert "cannot work" in said(view)[0]
    assert "asked for again in" in await view.session.describe(attempt.key) or lab.pilots()
    assert len(lab.cluster.rows()) <= 4
    await view.session.cancel([attempt.key])
    assert (await view.outcome(attempt)).reason is Reason.KILLED


async def test_it_is_said_what_pilots_wait_for(lab: PilotLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orch.adapters.pilots.session.SAY_AFTER", 0.5)
    lab.cluster.set(paused=True)
    view = await lab.open()
    attempt = view.shell("exit 2")
    await view.submit(attempt)
    found = await view.until(lambda update: isinstance(update, Said))
    assert isinstance(found, Said)
    assert "pilots wait" in found.text
    assert (await view.session.describe(attempt.key)).startswith("waits for a pilot: ")
    lab.cluster.set(paused=False)
    assert (await view.outcome(attempt)).exit_code == 2


async def test_a_leader_that_was_superseded_takes_nothing_away(lab: PilotLab) -> None:
    first = await lab.open()
    attempt = first.shell("exit 3")
    await first.submit(attempt)
    await first.outcome(attempt)
    second = await lab.open(2)
    await first.close()
    lab.views.remove(first)
    assert (await second.run_one(second.shell("exit 4"))).exit_code == 4


async def test_what_has_ended_when_a_leader_leaves_is_told_to_the_next(lab: PilotLab) -> None:
    first = await lab.open()
    attempt = first.shell("exit 3")
    await first.submit(attempt)
    await first.outcome(attempt, acknowledge=False)
    await first.close()
    lab.views.remove(first)
    second = await lab.open(2, find=[attempt.key])
    assert (await second.outcome(attempt)).exit_code == 3


async def test_a_run_that_has_pilots_goes_on_with_them(lab: PilotLab) -> None:
    """Else what they run would run a second time."""
    first = await lab.open()
    await first.submit(first.shell("sleep 1000"))
    await until(lab.pilots)
    await lab.die(first)
    with pytest.raises(UserError, match="give --pilot again"):
        await lab.open(2, pilot="")
    await lab.open(3)


async def test_more_than_a_node_has_is_refused_at_once(lab: PilotLab) -> None:
    with pytest.raises(UserError, match="cores=64 is more than any node has"):
        await lab.open(pilot="nodes=1,cores=64")


async def test_a_connection_that_is_cut_is_made_again(lab: PilotLab, tmp_path: Path) -> None:
    view = await lab.open()
    there, hold = Signal(tmp_path / "there"), Signal(tmp_path / "hold")
    attempt = view.shell(f"echo x >> {tmp_path}/ran; echo -n x > {there.path}; head -c1 < {hold.path}; exit 4")
    await view.submit(attempt)
    await there.wait()
    [member] = pilots_of(view)._agents._board.members.values()
    member.session._link.drop()  # type: ignore[union-attr]
    await until(lambda: member.session is None)
    await until(lambda: member.session is not None)
    Path(hold.path).write_bytes(b"x")
    assert (await view.outcome(attempt)).exit_code == 4
    assert (tmp_path / "ran").read_text() == "x\n"
    there.close()
    hold.close()


async def test_files_of_pilots_are_this_users_only(lab: PilotLab) -> None:
    view = await lab.open()
    assert (await view.run_one(view.shell("true"))).reason is Reason.FINISHED
    for path in Path(lab.files.root).rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
