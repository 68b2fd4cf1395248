"""The kit of adapters: it fails what breaks the contract, and says what it leaves out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest

import msgspec
import pytest
from support.kits import SCRIPTED, SHARED

from orch.adapters.contract import Adapter
from orch.adapters.null import NullAdapter, succeed
from orch.attempt import Attempt, Outcome
from orch.testing.adapter import FAULTS, AdapterContract, Bench, Rig


class NullRig(Rig):
    """An adapter that does nothing, and says that it was all well."""

    cannot: ClassVar[dict[str, str]] = dict.fromkeys(FAULTS, "nothing ever happens")
    patience = 0.2

    def adapter(self) -> Adapter:
        return NullAdapter(outcome)

    def left(self) -> list[str]:
        return []


def outcome(attempt: Attempt) -> Outcome:
    return msgspec.structs.replace(succeed(attempt), host="nowhere")


class Kit(AdapterContract):
    """Not collected: its tests are called here."""


@pytest.fixture
def rig(tmp_path: Path) -> NullRig:
    return NullRig(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "test_exit_code_0",
        "test_exit_code_3",
        "test_killed_by_a_signal",
        "test_cancelled_while_it_waits",
        "test_cancelled_while_it_runs",
        "test_out_of_memory",
        "test_running_while_the_leader_was_away",
        "test_odd_words_in_arguments",
        "test_a_service",
        "test_many_at_once",
    ],
)
def test_who_does_nothing_fails(rig: NullRig, name: str) -> None:
    with pytest.raises((AssertionError, EOFError, AttributeError)):  # there is no value
        getattr(Kit(), name)(rig)


def test_who_runs_something_twice_fails(rig: NullRig) -> None:
    async def story(bench: Bench) -> None:
        async with bench:
            attempt = bench.shell()
            Path(bench._ran(attempt.job)).write_text(".\n.\n")

    with pytest.raises(AssertionError, match=r"more often than once: \{'kit.1.1': 2\}"):
        asyncio.run(story(Bench(rig)))


def test_who_leaves_something_fails(rig: NullRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "left", lambda: ["job 7"])
    with pytest.raises(AssertionError, match="still has \\['job 7'\\]"):
        Kit().test_nobody_knows_it(rig)


def test_what_a_rig_cannot_do_is_skipped_with_its_reason(rig: NullRig) -> None:
    with pytest.raises(SkipTest, match="NullRig cannot forget: nothing ever happens"):
        Kit().test_forgotten_while_it_waits(rig)
    Kit().test_what_cannot_be_tried_is_declared(rig)


def test_what_a_rig_says_nothing_of_fails(rig: NullRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "cannot", {**rig.cannot, "twice": ""})
    assert rig.undeclared() == ["twice"]
    monkeypatch.setattr(rig, "cannot", {"down": "no", "typo": "no"})
    assert "typo" in rig.undeclared()
    assert "forget" in rig.undeclared()
    with pytest.raises(AssertionError):
        Kit().test_what_cannot_be_tried_is_declared(rig)


def test_what_is_left_out_of_some_kits_is_there() -> None:
    assert sorted(name for name in SHARED if not hasattr(AdapterContract, name)) == []
    assert [name for name in sorted(SCRIPTED) if not (Path(__file__).parent / name).exists()] == []
