"""Whatever comes, `apply` folds it or refuses it by name; it never breaks."""

from __future__ import annotations

import random
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lives import Lives
from support.workflows import RandomWorkflow

from orch.attempt import Plan
from orch.bus import events as ev
from orch.bus.codec import type_name
from orch.state.decide import Limits, decide
from orch.state.fold import apply
from orch.state.graph import IllegalTransition
from orch.state.model import State
from orch.state.status import statuses
from orch.testing.batch import FakeBatch, Faults

job = st.integers(0, 6)
ids = st.lists(job, max_size=3)
attempt = st.integers(0, 2)
word = st.sampled_from(["", "stop", "cancel", "pause", "resume", "succeeded", "failed", "LOST"])

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "job": job, "by": job, "attempt": attempt, "needs": ids, "refs": ids, "count": st.integers(0, 3),
    "added": st.integers(0, 3), "retries": st.integers(0, 2), "alias": st.booleans(), "charged": st.booleans(),
    "pid": st.just(1), "value": st.none(), "key": st.sampled_from(["r.1.1", "r.2.1"]), "what": word, "outcome": word,
    "reason": word, "parents": ids, "follows": ids, "serves": st.integers(-1, 3), "after": job, "failed": job,
    "checkpoint": st.booleans(), "survey": st.booleans(), "wait": st.sampled_from([0.0, 1.0]), "cache": st.booleans(),
    "form": st.sampled_from(["fork", "service", "group"]), "settings": st.just({}), "values": st.just([]),
    "files": st.just([]), "resources": st.just(ev.Resources()),
}  # fmt: skip
"""Values by name of the field; small, so that events are often about each other. Other fields: see `of_type`."""


def of_type(kind: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    """Events of one type: all that it requires, and what the fold reads."""
    given_fields = {}
    for field in msgspec.structs.fields(kind):
        if field.name in FIELDS and not (field.name == "value" and not field.required):
            given_fields[field.name] = FIELDS[field.name]
        elif field.required:
            given_fields[field.name] = st.just("x")
    return st.builds(kind, **given_fields)


anything = st.one_of([of_type(kind) for kind in ev.KNOWN])


def fold_or_refuse(events: list[ev.Event]) -> bool:
    """Fold all of `events`, numbered; True if none was refused."""
    state = State()
    for seq, event in enumerate(events, 1):
        try:
            apply(state, msgspec.structs.replace(event, seq=seq))
        except IllegalTransition as error:
            refusal = str(error)
            if not refusal.startswith(f"event {seq} ({type_name(event)})"):
                raise AssertionError(f"does not name the event: {refusal}") from error
            return False
        decide(state, Limits(slots=2, ahead=1))
        statuses(state)
    return True


@given(st.lists(anything, max_size=12))
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_any_events(events: list[ev.Event]) -> None:
    fold_or_refuse(events)


def real_log(seed: int) -> list[ev.Event]:
    """The log of a whole run."""
    workflow = RandomWorkflow(seed, deepest=2)
    batch = FakeBatch(workflow.body, seed=seed, faults=Faults(delay=1.0))
    lives = Lives(workflow.plan(), batch)

    async def whole() -> None:
        await lives.live()

    anyio.run(whole)
    return lives.log.events


LOGS = [real_log(seed) for seed in range(4)]


@given(log=st.sampled_from(LOGS), seed=st.integers(0, 2**32), more=anything)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_real_logs_with_something_wrong(log: list[ev.Event], seed: int, more: ev.Event) -> None:
    chance = random.Random(seed)
    events = list(log)
    place = chance.randrange(len(events))
    match chance.choice(["insert", "remove", "repeat", "swap", "replace"]):
        case "insert":
            events.insert(place, more)
        case "remove":
            del events[place]
        case "repeat":
            events.insert(place, events[place])
        case "swap":
            other = chance.randrange(len(events))
            events[place], events[other] = events[other], events[place]
        case "replace":
            events[place] = more
    fold_or_refuse(events)


@pytest.mark.parametrize("log", LOGS)
def test_real_logs_are_legal(log: list[ev.Event]) -> None:
    assert fold_or_refuse(log)


def test_a_plan_of_nothing_is_a_run() -> None:
    lives = Lives(Plan(), FakeBatch(lambda _: (_ for _ in ()).throw(AssertionError("nothing to run"))))

    async def whole() -> None:
        await lives.live()

    anyio.run(whole)
    assert lives.state.outcome == "succeeded"
