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
LONG = 3600 if NIGHTLY else 120


def moments(seed: str, most: int) -> list[int]:
    """Events at which to kill: a sample; with ORCH_NIGHTLY=1 all."""
    return list(range(BEGUN, 200)) if NIGHTLY else sorted(random.Random(seed).sample(range(BEGUN, EVENTS), most))


@pytest.mark.timeout(LONG)
def test_the_leader_is_killed_at_an_event(tmp_path: Path) -> None:
    """The next one is done."""
    with agent_ends(tmp_path / "s"):
        for number, at in enumerate(moments("leader", 3)):
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
        while kills < (60 if NIGHTLY else 12):
            when = chance.choice(MOMENTS)
            found = case.call([*case.sabotage(at=at, own=True, when=when, do=["leader"]), *words])
            if found.returncode != KILLED:
                break
            kills += 1
            words, at = case.carry_on(), chance.randint(1, 5)
        assert kills >= (50 if NIGHTLY else 12)
        case.check(case.finish())
