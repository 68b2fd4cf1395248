"""A run with all that jobs can be to each other is killed at its events: leader, agent, services, several at once."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from support.kills import NIGHTLY, agent_ends
from support.model_kills import ModelCase

EVENTS = 140
"""So many events the run has at least; how many exactly depends on what comes together in a turn of the leader."""

BEGUN = 27
"""From this event on there is a run."""

KILLED = -signal.SIGKILL
MOMENTS = ["behind", "before", "torn", "synced", "checked"]
MOST, LEAST = (80, 50) if NIGHTLY else (8, 8)
"""Leaders that are killed in a row."""

LONG = 3600 if NIGHTLY else 120


def moments(seed: str, most: int, step: int = 1) -> list[int]:
    """Events at which to kill: a sample; with ORCH_NIGHTLY=1 all, or one of so many."""
    return list(range(BEGUN, 200, step)) if NIGHTLY else sorted(random.Random(seed).sample(range(BEGUN, EVENTS), most))


@pytest.mark.timeout(LONG)
def test_the_leader_is_killed_at_an_event(tmp_path: Path) -> None:
    """The next one is done."""
    with agent_ends(tmp_path / "s"):
        for number, at in enumerate(moments("leader", 2)):
            case = ModelCase(tmp_path, f"r{at}")
            first = case.call([*case.sabotage(at=at, when=MOMENTS[number % 5], do=["leader"]), *case.begin()])
            if first.returncode == KILLED:
                first = case.finish()
            else:
                assert len(case.events()) < at
            case.check(first)


@pytest.mark.timeout(LONG)
def test_leaders_are_killed_in_a_row(tmp_path: Path) -> None:
    """Each at one of its first events: until the run is done nevertheless, or that has been often enough."""
    chance = random.Random(51)
    case = ModelCase(tmp_path, "r")
    words, at = case.begin(), BEGUN
    kills = 0
    with agent_ends(case.store):
        while kills < MOST:
            when = chance.choice(MOMENTS)
            found = case.call([*case.sabotage(at=at, own=True, when=when, do=["leader"]), *words])
            if found.returncode != KILLED:
                break
            kills += 1
            words, at = case.carry_on(), chance.randint(1, 4)
        assert kills >= LEAST
        case.check(case.finish())


OTHERS = {
    "agent": ["agent"],
    "services": ["services"],
    "workers": ["workers"],
    "agent and leader": ["agent", "leader"],
    "services and leader": ["services", "leader"],
    "leader, by SIGTERM": ["term"],
    "leader, by Ctrl-C": ["interrupt"],
}
LEFT = {KILLED, 128 + signal.SIGTERM, 128 + signal.SIGINT}
"""How a leader that did not end its run exits."""


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("who", OTHERS)
def test_others_are_killed_at_an_event(tmp_path: Path, who: str) -> None:
    """What was lost with them runs again, and nothing else does. A body that is killed by a signal costs a try."""
    with agent_ends(tmp_path / "s"):
        for number, at in enumerate(moments(who, 1, 5)):
            case = ModelCase(tmp_path, f"r{at}", lossy="SIGTERM" not in who)
            plan = case.sabotage(at=at, when=MOMENTS[number % 5], do=OTHERS[who])
            found = case.call([*plan, *case.begin("--retries", "5")])
            case.check(case.finish() if found.returncode in LEFT else found)


SORTS = [["leader"], ["agent", "leader"], ["template", "leader"], ["services", "leader"], ["term"]]


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("seed", range(10 if NIGHTLY else 1))
def test_all_sorts_are_killed_in_a_row(tmp_path: Path, seed: int) -> None:
    """At one of the first events of each leader. Some leaders leave before they have come to lead."""
    chance = random.Random(seed)
    case = ModelCase(tmp_path, "r", lossy=True)
    words, at = case.begin("--retries", "50"), BEGUN
    with agent_ends(case.store):
        for _ in range(40 if NIGHTLY else 7):
            who = chance.choice(SORTS)
            found = case.call([*case.sabotage(at=at, own=True, when=chance.choice(MOMENTS), do=who), *words])
            if found.returncode not in LEFT:
                break
            words, at = case.carry_on(), chance.randint(1, 9)
        case.check(case.finish())
