"""Who plays the leader in a worker: when it writes what, and what it makes of signals. Without processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orch.adapters.contract import Finished, RunInfo, Started
from orch.agent import protocol
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bus.events import Blob, Resources
from orch.worker import memory
from orch.worker.deputy import GONE, Deputy
from orch.worker.spool import WORKER, Claim, Spool, Ticket

KEY = "run.1.1"
TICKET = Ticket("1-1", 1)


class FakeLoop:
    """Time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stopped = False
        self._later: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((self.now + seconds, action))

    def stop(self) -> None:
        self.stopped = True

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self._later and min(when for when, _ in self._later) <= end:
            first = min(self._later, key=lambda each: each[0])
            self._later.remove(first)
            self.now = first[0]
            first[1]()
        self.now = end


class FakeAgent:
    """Hears what it is told."""

    def __init__(self) -> None:
        self.heard_of: list[Any] = []

    def accept(self, stream: object) -> None:
        return None

    def heard(self, connection: object, message: Any) -> None:
        self.heard_of.append(message)


class Stage:
    """A deputy, and all that is around it."""

    def __init__(self, root: Path, form: str = "command") -> None:
        self.spool = Spool(str(root), "run")
        self.spool.make()
        self.loop, self.agent = FakeLoop(), FakeAgent()
        self.hurried: list[str] = []
        claim = Claim(WORKER, "host", 17, "9", "then")
        self.deputy = Deputy(self.loop, self.spool, TICKET, claim, self.hurried.append)  # type: ignore[arg-type]
        attempt = Attempt(KEY, "run", 1, 1, 1, "test", "a test", form, Blob(), Resources())
        info = RunInfo("run", 1, str(root), {})
        self.deputy.hand_over(self.agent, info, "/runtime", attempt)  # type: ignore[arg-type]

    def said(self, *updates: Any) -> None:
        self.deputy.send(protocol.frame(protocol.Updates(list(updates))))

    def over(self, **how: Any) -> None:
        self.said(Finished(KEY, Outcome(key=KEY, **{"reason": Reason.FAILED, **how})))

    def warned(self, number: int) -> None:
        self.deputy.warned(number, self.loop.now)

    def asked(self, kind: type) -> int:
        return sum(isinstance(each, kind) for each in self.agent.heard_of)

    def outcome(self) -> Outcome | None:
        """What was left."""
        return self.spool.outcome(TICKET)

    def stopped(self) -> bool:
        """Was the agent told to stop?"""
        return self.loop.stopped


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_an_end_is_written_at_once_and_acknowledged(stage: Stage) -> None:
    stage.over(exit_code=3)
    assert stage.outcome() is not None
    assert stage.asked(protocol.Acknowledge) == 1
    assert stage.stopped()
    assert stage.deputy.failure == ""


@pytest.mark.parametrize("how", [{"signal": 15}, {"exit_code": 143}, {"reason": Reason.LOST}])
def test_the_news_of_a_signal_may_come_after_what_it_did(tmp_path: Path, how: dict[str, Any]) -> None:
    """The batch system has sent it to all processes of the job."""
    stage = Stage(tmp_path)
    stage.over(**how)
    assert stage.outcome() is None
    stage.warned(signal.SIGTERM)
    stage.loop.pass_time(1)
    outcome = stage.outcome()
    assert outcome is not None
    assert (outcome.reason, outcome.signal) == (Reason.KILLED, 15)
    assert outcome.exit_code is None


def test_a_signal_of_the_program_s_own_is_its_end(stage: Stage) -> None:
    stage.over(signal=11, message="killed by signal SIGSEGV (11)")
    stage.loop.pass_time(1)
    outcome = stage.outcome()
    assert outcome is not None
    assert (outcome.reason, outcome.signal) == (Reason.FAILED, 11)


@pytest.mark.parametrize("reason", [Reason.FINISHED, Reason.MEMLIMIT, Reason.MAXJOBDURATION])
def test_what_a_signal_does_not_explain(tmp_path: Path, reason: Reason) -> None:
    stage = Stage(tmp_path)
    stage.warned(signal.SIGTERM)
    stage.over(reason=reason)
    outcome = stage.outcome()
    assert outcome is not None
    assert outcome.reason is reason


@pytest.mark.parametrize("how", [{"signal": 9}, {"exit_code": 1}, {"reason": Reason.FINISHED}])
def test_what_the_kernel_killed_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    stage = Stage(tmp_path)
    before = memory.kills()
    monkeypatch.setattr(memory, "kills", lambda: before + 1)
    stage.over(**how)
    stage.loop.pass_time(1)
    outcome = stage.outcome()
    assert outcome is not None
    assert outcome.reason is (Reason.FINISHED if "reason" in how else Reason.MEMLIMIT)


def test_the_same_signal_twice_is_one_warning_unless_time_has_passed(stage: Stage) -> None:
    stage.warned(signal.SIGTERM)
    stage.warned(signal.SIGTERM)
    assert (stage.asked(protocol.Cancel), stage.hurried) == (1, [])
    stage.loop.pass_time(5)
    stage.warned(signal.SIGTERM)
    assert (stage.asked(protocol.Cancel), stage.hurried) == (1, [KEY])


def test_the_death_of_the_front_waits_for_nothing(stage: Stage) -> None:
    stage.warned(GONE)
    assert (stage.asked(protocol.Cancel), stage.hurried) == (1, [KEY])


def test_notes_are_gathered_and_that_a_service_is_up_is_told_at_once(stage: Stage) -> None:
    stage.said(Started(KEY, pid=5, since="now"))
    started = stage.spool.started(TICKET)
    assert started is not None
    assert (started.pid, started.since, started.job) == (5, "now", "9")
    stage.said(Note(KEY, "annotate", "loss", 1))
    stage.loop.pass_time(0.5)
    stage.said(Note(KEY, "annotate", "loss", 2))
    assert stage.spool.notes("1-1.1.1.notes") == []
    stage.loop.pass_time(0.5)
    assert [note.value for note in stage.spool.notes("1-1.1.1.notes")] == [1, 2]
    stage.said(Note(KEY, "up"))
    assert [note.kind for note in stage.spool.notes("1-1.1.2.notes")] == ["up"]
    stage.said(Note(KEY, "annotate", "loss", 3))
    stage.over()
    assert [note.value for note in stage.spool.notes("1-1.1.3.notes")] == [3]


def test_a_wish_is_looked_for_by_services_only(tmp_path: Path) -> None:
    stages = [Stage(tmp_path / form, form) for form in ("service", "fork")]
    for stage in stages:
        stage.loop.pass_time(5)
        assert stage.asked(protocol.StopServices) == 0
        stage.spool.ask_to_stop(TICKET)
        stage.loop.pass_time(5)
    assert [stage.asked(protocol.StopServices) for stage in stages] == [1, 0]


def test_a_store_that_is_away_for_a_while(stage: Stage) -> None:
    away = f"{stage.spool.root}.away"
    os.rename(stage.spool.root, away)
    stage.said(Started(KEY, pid=5), Note(KEY, "annotate", "loss", 1))
    stage.over(exit_code=3)
    stage.loop.pass_time(30)
    assert not stage.stopped()
    os.rename(away, stage.spool.root)
    stage.loop.pass_time(2)
    assert stage.stopped()
    assert stage.deputy.failure == ""
    assert stage.outcome() is not None
    assert stage.spool.started(TICKET) is not None
    assert len(stage.spool.notes("1-1.1.1.notes")) == 1


def test_a_store_that_does_not_come_back(stage: Stage) -> None:
    os.rename(stage.spool.root, f"{stage.spool.root}.away")
    stage.over(exit_code=3)
    stage.loop.pass_time(120)
    assert stage.stopped()
    assert stage.deputy.failure == "No such file or directory"


def test_an_agent_that_does_not_want_it_says_why(stage: Stage) -> None:
    stage.deputy.send(protocol.frame(protocol.Refused("it does not fit")))
    outcome = stage.outcome()
    assert outcome is not None
    assert (outcome.reason, outcome.message) == (Reason.ERROR, "it does not fit")
