"""The leader is killed at events, exactly there; the run is carried on: nothing is lost, nothing runs twice.

At every third event, and nightly at every one.
"""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest
from support.kills import NIGHTLY, Case, agent_ends

EVENTS = 70
"""So many events the run has at least; how many exactly depends on what comes together in a turn of the leader."""

BATCHES = 4
STEP = 1 if NIGHTLY else 3
"""Of so many events one is taken."""

JOBS = 60
CHAIN = Path(__file__).parent / "flows" / "chain.py"
KILLED = -signal.SIGKILL


def killed(case: Case, at: int, when: str) -> bool:
    """Kill the leader at an event, carry the run on, and check. False if the run has no such event."""
    first = case.call([*case.sabotage(at=at, when=when, do=["leader"]), *case.begin()])
    assert first.returncode in (0, KILLED), first.stderr
    if first.returncode == KILLED:
        case.check(case.finish())
        return True
    case.check(first)
    assert len(case.events()) < at
    return False


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_behind_an_event(tmp_path: Path, batch: int) -> None:
    """Its line is written, and not what follows; nobody has been told."""
    with agent_ends(tmp_path / "s"):
        at = 1 + batch * STEP
        while killed(Case(tmp_path, f"r{at}"), at, "behind"):
            at += BATCHES * STEP
        assert at > EVENTS


@pytest.mark.parametrize("when", ["before", "torn", "synced", "checked"])
def test_killed_at_other_moments(tmp_path: Path, when: str) -> None:
    """A sample; with ORCH_NIGHTLY=1 all."""
    chance = random.Random(when)
    moments = range(1, 100) if NIGHTLY else [1, 2, *sorted(chance.sample(range(3, EVENTS), 3))]
    with agent_ends(tmp_path / "s"):
        for at in moments:
            if not killed(Case(tmp_path, f"r{at}"), at, when):
                assert at > EVENTS
                break


@pytest.mark.timeout(1800 if NIGHTLY else 120)
def test_the_second_leader_is_killed_too(tmp_path: Path) -> None:
    """While it takes over, and later: at the events of its own."""
    chance = random.Random(7)
    with agent_ends(tmp_path / "s"):
        for at in [40] if not NIGHTLY else range(14, EVENTS, 4):
            for own in [1, 2, 3, *sorted(chance.sample(range(4, 15), 2))]:
                when = chance.choice(["before", "torn", "behind", "checked"])
                case = Case(tmp_path, f"r{at}-{own}", seconds=0.02)
                case.call([*case.sabotage(at=at, do=["leader"]), *case.begin()])
                second = case.call([*case.sabotage(at=own, own=True, when=when, do=["leader"]), *case.carry_on()])
                assert second.returncode in (0, KILLED), second.stderr
                case.check(case.finish())


def test_killed_many_times_in_a_row(tmp_path: Path) -> None:
    """Every leader is killed at one of its first events: 15 of them, or 50 with ORCH_NIGHTLY=1. Each body runs once."""
    times = 50 if NIGHTLY else 15
    chance = random.Random(50)
    case = Case(tmp_path, "r")
    case.counts.mkdir()
    words = ["run", "--quiet", "--no-chaining", "--run-id", "r", "--store", str(case.store), str(CHAIN)]
    words += ["--where", str(case.counts), "--jobs", str(JOBS)]
    at = JOBS + 8  # the first job has been handed over
    with agent_ends(case.store):
        for _ in range(times):
            when = chance.choice(["before", "torn", "behind", "synced", "checked"])
            found = case.call([*case.sabotage(at=at, own=True, when=when, do=["leader"]), *words])
            assert found.returncode == KILLED, found.stderr
            words, at = case.carry_on(), chance.randint(1, 6)
        done = case.finish()
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == JOBS
    assert len(list(case.log.iterdir())) == times + 1
    assert case.executions() == {str(number): 1 for number in range(JOBS)}
