"""Agent, workers and templates are killed at an event of the run, exactly there; also agent and leader together.

What had ended is not run again; what was lost, is. Bodies take a moment, so that some are under way at most events.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from support.kills import NIGHTLY, Case, agent_ends

SECONDS = 0.03
EVENTS = 70
TRIES = ["--retries", "5"]
"""A body that is killed by a signal costs a try."""


def moments(seed: str, most: int) -> list[int]:
    """Events at which to kill: a sample; with ORCH_NIGHTLY=1 all."""
    return list(range(1, 100)) if NIGHTLY else sorted(random.Random(seed).sample(range(14, EVENTS), most))


@pytest.mark.timeout(1800 if NIGHTLY else 120)
@pytest.mark.parametrize("when", ["before", "behind", "checked"])
@pytest.mark.parametrize("who", ["agent", "workers", "template"])
def test_killed_at_an_event_while_the_leader_goes_on(tmp_path: Path, who: str, when: str) -> None:
    """The leader goes on by itself, and is done."""
    with agent_ends(tmp_path / "s"):
        for at in moments(f"{who} {when}", 2):
            case = Case(tmp_path, f"r{at}", seconds=SECONDS)
            case.check(case.call([*case.sabotage(at=at, when=when, do=[who]), *case.begin(*TRIES)]))


@pytest.mark.timeout(1800 if NIGHTLY else 120)
@pytest.mark.parametrize("when", ["before", "torn", "behind", "checked"])
@pytest.mark.parametrize("who", ["agent", "workers", "template"])
def test_killed_at_an_event_and_the_leader_too(tmp_path: Path, who: str, when: str) -> None:
    """The next leader is done."""
    with agent_ends(tmp_path / "s"):
        for at in moments(f"{who} and leader {when}", 2 if who == "agent" else 1):
            case = Case(tmp_path, f"r{at}", seconds=SECONDS)
            found = case.call([*case.sabotage(at=at, when=when, do=[who, "leader"]), *case.begin(*TRIES)])
            assert found.returncode in (0, -signal.SIGKILL), found.stderr
            case.check(case.finish())
