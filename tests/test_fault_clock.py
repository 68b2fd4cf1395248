"""The host's clock is set back by an hour while a run goes on: order is by number, and no time is negative."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.command import orch, status
from support.kills import FAULTY, Case, agent_ends


def times(shown: dict[str, Any]) -> list[float]:
    """Every duration that is shown of a run."""
    found = []
    for job in shown["jobs"].values():
        found += [value for value in (job["wall"], *(job["usage"] or {}).values()) if value is not None]
    return found


def check_commands(case: Case) -> None:
    """What looks at a run does not mind."""
    for words in (
        ["status"],
        ["tail"],
        ["tail", "--json"],
        ["list"],
        ["logs", "gather"],
        ["why", "gather"],
        ["replay"],
    ):
        run = [] if words == ["list"] else [case.run]
        done = orch(words[0], *run, *words[1:], "--store", case.store, cwd=case.place)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert not re.search(r" -\d", done.stdout), done.stdout
    seqs = [json.loads(line)["seq"] for line in orch_tail(case)]
    assert seqs == list(range(1, len(seqs) + 1))
    shown = times(status(case.store, case.run))
    assert shown
    assert min(shown) >= 0


def orch_tail(case: Case) -> list[str]:
    """The run's events, as they are printed."""
    return orch("tail", case.run, "--json", "--store", case.store, cwd=case.place).stdout.splitlines()


@pytest.mark.parametrize("at", [2, 24, 45])
@pytest.mark.parametrize("who", ["leader", "host"])
def test_the_clock_is_set_back(tmp_path: Path, who: str, at: int) -> None:
    """Of the leader alone (its agent is on a host with a better one), or of all."""
    trigger = tmp_path / "trigger"
    case = Case(tmp_path, "r", seconds=0.05)
    path = f"{FAULTY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
    environment = {"PYTHONPATH": path, "SABOTAGE_CLOCK": str(trigger)} if who == "host" else {}
    plan = {"at": at, "when": "before", "do": ["clock"], "seconds": 3600.0}
    if who == "host":
        plan = {**plan, "do": ["touch"], "where": str(trigger)}
    with agent_ends(case.store):
        case.check(case.call([*case.sabotage(**plan), *case.begin()], **environment))
        stamps = [event.time for event in case.events()]
        assert stamps != sorted(stamps), "the clock was not set back"
        check_commands(case)


def test_the_next_leader_has_a_slow_clock(tmp_path: Path) -> None:
    """It began before the one that it takes over from had ended, as the log has it."""
    case = Case(tmp_path, "r", seconds=0.05)
    with agent_ends(case.store):
        case.call([*case.sabotage(at=40, do=["leader"]), *case.begin()])
        found = case.call(
            [*case.sabotage(at=1, own=True, when="before", do=["clock"], seconds=3600.0), *case.carry_on()]
        )
        case.check(found)
        check_commands(case)
