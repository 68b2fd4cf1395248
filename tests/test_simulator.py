"""The whole engine in virtual time: what goes wrong follows from a seed, and nothing is ever lost.

`make simulate` goes on for as long as one likes; here is what every change has to pass.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from simulator import planted, planted_model  # noqa: F401 - it registers its faults
from simulator.batch import Batch
from simulator.host import Host
from simulator.kind import Kind
from simulator.oracle import Violation
from simulator.story import Story
from support.kills import NIGHTLY

from orch.bus import events as ev
from orch.errors import LogDamaged
from orch.state.fold import apply, fold
from orch.state.model import State
from orch.testing.states import Picture, difference, snapshot

TESTS = Path(__file__).parent

SEEDS = 400 if NIGHTLY else 160
CHUNKS = 8

MOST = 500
"""Stories until a fault is found. Most need less than thirty; one that needs more wants a `Kind` of its own."""


def told(seed: int) -> Story:
    """A story that went well."""
    story = Story(seed)
    story.tell()
    return story


# A seed decides everything ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_seed_repeats_exactly(seed: int) -> None:
    one, other = told(seed), told(seed)
    assert one.world.lines == other.world.lines
    assert one.events() == other.events()
    assert one.world.steps == other.world.steps


def test_a_seed_repeats_in_another_process() -> None:
    """Neither the order of sets nor anything else of the process gets in."""

    def transcript(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-m", "simulator", "--seed", "7"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=TESTS)
        return done.stdout

    assert transcript("1") == transcript("2")


def test_different_seeds_tell_different_stories() -> None:
    assert told(1).world.lines != told(2).world.lines


# Many seeds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost(chunk: int) -> None:
    for seed in range(chunk, SEEDS, CHUNKS):
        story = Story(seed)
        try:
            story.tell()
        except Exception as error:
            error.add_note(f"to see all of it: make simulate SEED={seed}")
            raise


def test_stories_have_everything_in_them() -> None:
    """Faults that never come prove nothing."""
    wanted = {
        "power cut", "is killed", "is stopped", "goes on", "fails with EIO", "is full after", "Fenced", "LogTrouble",
        "clock set", "is told to go", "wishes: cancel", "wishes: stop", "to take over", "retrying", "(MISSING)",
        "(LOST)", "hangs up", "cancelled", "carries on", "added", "asks about", "(KILLED)", "AdapterError", "RunBusy",
        "serving", "surveyed", "reused", "rewound", "removed", "tells to stop",
    }  # fmt: skip
    for seed in range(120):
        lines = told(seed).world.lines
        wanted -= {each for each in wanted if any(each in line for line in lines)}
        if not wanted:
            return
    assert not wanted


KINDS = {"agent": Host, "batch": Batch}


# Replaying -------------------------------------------------------------------------------------------------------

EVENTS: msgspec.json.Decoder[ev.Event] = msgspec.json.Decoder(functools.reduce(operator.or_, ev.KNOWN))


@pytest.mark.parametrize("seed", range(30))
def test_the_replay_of_every_prefix_is_the_live_state(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a group, too: at each event that a leader folded and that became durable."""
    pictures: dict[tuple[int, int], Picture] = {}

    def watched(events: list[ev.Event], state: State) -> None:
        step = len(events) if len(pictures) % 2 else 1  # at once, as it is, or one by one
        for start in range(0, len(events), max(step, 1)):
            fold(events[start : start + step], state)
            last = events[start : start + step][-1]
            pictures[last.epoch, last.seq] = snapshot(state)

    monkeypatch.setattr("orch.leader.leader.fold", watched)
    story = told(seed)
    replayed, compared = State(), 0
    for event in story.events():
        apply(replayed, EVENTS.decode(msgspec.json.encode(event)))
        live = pictures.get((event.epoch, event.seq))
        if live is not None:
            assert difference(snapshot(replayed), live) == [], f"after event {event.seq}"
            compared += 1
    assert compared or not story.workload.names


# At every single step --------------------------------------------------------------------------------------------


def small(kind: str) -> Story:
    """A quiet story of a few jobs, on this host (`agent`) or in a batch system elsewhere."""
    for seed in itertools.count():
        story = Story(seed, calm=True, small=True)
        if isinstance(story.system, KINDS[kind]) and len(story.workload.names) > 2:
            return story
    raise AssertionError


def steps_of(kind: str) -> int:
    """How many steps its leader takes when nothing goes wrong."""
    story = small(kind)
    story.world.step()
    leader = story.leaders[0]
    story.tell()
    return leader.steps


def at_step(kind: str, step: int, what: str) -> Story:
    """Let one thing go wrong before the first leader's step of that number."""
    story = small(kind)
    story.world.step()
    leader = story.leaders[0]
    done = False

    def meanwhile() -> None:
        nonlocal done
        if done or leader.steps < step:
            return
        done = True
        if what == "kill":
            leader.kill()
        elif what == "power cut":
            story.power_cut()
        else:
            leader.stop()
            if story.oracle.state.planned is not None:
                story.start_leader(take_over=True)
            story.world.later(5.0, leader.go_on)

    story.tell(meanwhile)
    return story


@pytest.mark.parametrize("what", ["kill", "power cut", "stop and take over"])
@pytest.mark.parametrize("kind", ["agent", "batch"])
def test_a_leader_dies_at_every_step(kind: str, what: str) -> None:
    """A step is what lies between two awaits, or two operations on the disk; half a write is one, too."""
    last = steps_of(kind)
    assert last > 100
    for step in range(1, last + 1):
        try:
            at_step(kind, step, what)
        except Exception as error:
            error.add_note(f"{what} at step {step} of {last}, {kind}")
            raise


# The simulator can see -------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", sorted(planted.FAULTS)[:: 1 if NIGHTLY else 2])
def test_an_engine_that_is_broken_on_purpose_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = planted.FAULTS[name]
    fault.plant(monkeypatch)
    with pytest.raises((Violation, LogDamaged)):
        tell_many(MOST, fault.kind)


def tell_many(seeds: int, kind: Kind) -> None:
    for seed in range(seeds):
        Story(seed, kind=kind).tell()
