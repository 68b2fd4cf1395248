"""What is concluded from what files and the batch system say of tasks: pure, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.adapters.batch import board as module
from orch.adapters.batch.board import Board
from orch.adapters.batch.dialect import End, Seen, Stage
from orch.adapters.batch.limits import Limits
from orch.adapters.batch.records import NEVER, Submission, Task
from orch.adapters.contract import Finished, Queued, Started, Update
from orch.attempt import Note, Outcome, Reason
from orch.bus.events import Resources
from orch.worker.spool import Claim, Spool, Ticket

CLAIM = Claim("worker", "node1", 7, "9.1", "2026-01-01T00:00:00Z")
RUNNING = Seen(Stage.RUNNING, "R")
QUEUED = Seen(Stage.QUEUED, "PD", "Priority")


class Desk:
    """A board, one submission of some tasks on it, and what it has said."""

    def __init__(self, tasks: int = 1) -> None:
        self.time = 1000.0
        self.told: list[Update] = []
        self.said: list[str] = []
        self.removed: list[Task] = []
        self.hurried = 0
        self.board = Board(
            tell=self.told.append,
            say=self.said.append,
            remove=self.removed.extend,
            hurry=self._hurry,
            added=lambda: None,
            lag=2.0,
            missing_after=120.0,
            now=lambda: self.time,
        )
        spool = Spool("/nowhere", "run")
        self.submission = Submission("1-1", "o-1", 0.0, spool, self, job="9")  # type: ignore[arg-type]
        self.submission.tasks = [Task(f"run.{n}.1", Ticket("1-1", n), self.submission) for n in range(1, tasks + 1)]
        self.board.add(self.submission)
        self.task = self.submission.tasks[0]

    def task_id(self, job: str, index: int, _size: int) -> str:
        return f"{job}.{index}"

    def _hurry(self) -> None:
        self.hurried += 1

    @property
    def ends(self) -> list[Outcome]:
        return [update.outcome for update in self.told if isinstance(update, Finished)]

    def conclude(self, outcome: Outcome | None = None, claim: Claim | None = None, said: str = "") -> None:
        """As `orch.adapters.batch.news` does with what is due."""
        for task in self.board.due():
            found = self.board.conclude(task, outcome, claim, said)
            if found is not None:
                self.board.concluded(task, found)


def outcome(reason: Reason = Reason.FINISHED) -> Outcome:
    return Outcome(key="run.1.1", reason=reason, message=f"it says {reason}")


def over(reason: Reason) -> Seen:
    return Seen(Stage.OVER, "CD", end=End(reason, message=f"the queue says {reason}"))


def test_news_in_order() -> None:
    desk = Desk()
    desk.board.taken(desk.submission)
    desk.board.started(desk.task, CLAIM)
    desk.board.noted(desk.task, 1, [Note("run.1.1", "log", "stdout", "x")])
    desk.board.noted(desk.task, 1, [Note("run.1.1", "log", "stdout", "x")])
    desk.board.ended(desk.task, outcome())
    desk.board.ended(desk.task, outcome())
    kinds = [type(update) for update in desk.told]
    assert kinds == [Queued, Started, Note, Finished]
    assert isinstance(desk.told[0], Queued)
    assert desk.told[0].id == "9.1"


@pytest.mark.parametrize("reason", list(Reason))
def test_an_outcome_counts_whatever_the_batch_system_says(reason: Reason) -> None:
    desk = Desk()
    desk.board.saw(desk.task, over(Reason.LOST))
    desk.task.asked = True
    desk.board.ended(desk.task, outcome(reason))
    desk.board.saw(desk.task, over(Reason.KILLED))
    desk.time += 1000
    desk.conclude()
    assert [each.reason for each in desk.ends] == [reason]


def test_a_late_outcome_is_waited_for() -> None:
    desk = Desk()
    desk.board.started(desk.task, CLAIM)
    desk.board.saw(desk.task, over(Reason.FINISHED))
    desk.time += module.PATIENCE - 0.1
    desk.conclude(claim=CLAIM)
    assert desk.ends == []
    desk.time += 0.2
    desk.conclude(claim=CLAIM)
    assert [each.reason for each in desk.ends] == [Reason.PARTITION]


def test_an_outcome_that_is_there_in_the_end_counts() -> None:
    desk = Desk()
    desk.board.started(desk.task, CLAIM)
    desk.board.saw(desk.task, over(Reason.LOST))
    desk.time += 100
    desk.conclude(outcome=outcome(), claim=CLAIM)
    assert [each.reason for each in desk.ends] == [Reason.FINISHED]


def test_where_no_worker_can_have_begun_nothing_is_waited_for() -> None:
    desk = Desk()
    desk.board.saw(desk.task, over(Reason.FAILED))
    desk.time += module.UNBEGUN
    desk.conclude(said="python: not found\n")
    assert [each.reason for each in desk.ends] == [Reason.ERROR]
    assert "python: not found" in desk.ends[0].message


def test_a_worker_that_had_begun_all_the_same_is_waited_for() -> None:
    """Its claim is found when its ticket is revoked."""
    desk = Desk()
    desk.board.saw(desk.task, over(Reason.MEMLIMIT))
    desk.time += module.UNBEGUN
    desk.conclude(claim=CLAIM)
    assert desk.ends == []
    desk.time += module.PATIENCE
    desk.conclude(claim=CLAIM)
    assert [(each.reason, each.host) for each in desk.ends] == [(Reason.MEMLIMIT, "node1")]


def test_what_is_there_again_is_not_over() -> None:
    desk = Desk()
    desk.board.started(desk.task, CLAIM)
    desk.board.saw(desk.task, over(Reason.LOST))
    desk.board.saw(desk.task, QUEUED)
    desk.time += 100
    desk.conclude(claim=CLAIM)
    assert desk.ends == []
    assert not desk.board.waits


@pytest.mark.parametrize(
    ("end", "reason"),
    [(Reason.PREEMPTED, Reason.PREEMPTED), (Reason.KILLED, Reason.FAILED), (Reason.MAXJOBDURATION,) * 2],
)
def test_the_batch_system_says_why_it_has_ended_something(end: Reason, reason: Reason) -> None:
    desk = Desk()
    desk.board.started(desk.task, CLAIM)
    desk.board.ended(desk.task, outcome(Reason.KILLED))
    assert desk.ends == []
    assert desk.hurried == 1
    desk.board.ended(desk.task, outcome(Reason.KILLED))  # noticed once more
    assert not desk.task.gone
    desk.board.saw(desk.task, Seen(Stage.ENDING, "CG"))
    desk.conclude(claim=CLAIM)
    assert desk.ends == []
    desk.board.saw(desk.task, over(end))
    desk.conclude(claim=CLAIM)
    assert [each.reason for each in desk.ends] == [reason]


def test_where_it_never_says_why_that_is_lost() -> None:
    desk = Desk()
    desk.board.ended(desk.task, outcome(Reason.KILLED))
    for _ in range(10):
        desk.time += 10
        desk.board.missed(desk.task, surely=True)
        desk.conclude(claim=CLAIM)
    assert [each.reason for each in desk.ends] == [Reason.LOST]


def test_what_is_asked_for_while_a_reason_is_waited_for_has_ended() -> None:
    desk = Desk()
    desk.board.ended(desk.task, outcome(Reason.KILLED))
    desk.board.ask(desk.task)
    desk.board.ask(desk.task)
    assert [each.reason for each in desk.ends] == [Reason.KILLED]


def test_absence_is_an_end_after_long_and_several_answers() -> None:
    desk = Desk()
    desk.board.missed(desk.task, surely=True)
    desk.time += 200
    desk.conclude()
    assert not desk.task.forgotten  # one answer only
    desk.board.missed(desk.task, surely=True)
    desk.board.saw(desk.task, QUEUED)  # there it is
    desk.board.missed(desk.task, surely=True)
    desk.board.missed(desk.task, surely=True)
    desk.board.missed(desk.task, surely=True)
    desk.conclude()
    assert desk.ends == []
    desk.time += 121
    desk.board.missed(desk.task, surely=True)
    desk.conclude()
    assert [each.reason for each in desk.ends] == [Reason.MISSING]
    assert desk.removed == [desk.task]  # should it come back


def test_what_was_revoked_is_removed_until_it_is_seen_no_more() -> None:
    desk = Desk()
    desk.board.ask(desk.task)
    desk.board.revoked(desk.task)
    assert [each.reason for each in desk.ends] == [Reason.KILLED]
    assert desk.removed == [desk.task]
    desk.board.saw(desk.task, QUEUED)
    assert desk.removed == [desk.task] * 2
    desk.board.missed(desk.task, surely=False)
    desk.time += 5
    assert not desk.task.gone
    desk.board.missed(desk.task, surely=False)
    assert desk.task.gone


def test_strange_words_and_holds_are_said_once() -> None:
    desk = Desk(3)
    for task in desk.submission.tasks:
        desk.board.saw(task, Seen(Stage.STRANGE, "BANANA"))
        desk.board.saw(task, Seen(Stage.HELD, "H", "JobHeldUser"))
    assert len(desk.said) == 2
    assert "BANANA" in desk.said[0]
    assert "JobHeldUser" in desk.said[1]
    assert desk.ends == []


def test_the_end_is_told_again_until_it_is_in_the_log() -> None:
    desk = Desk()
    desk.board.ended(desk.task, outcome())
    desk.board.standing(desk.task)
    assert len(desk.ends) == 2
    desk.board.acknowledged(desk.task)
    desk.board.standing(desk.task)
    assert len(desk.ends) == 2


def test_a_key_belongs_to_the_last_submission_that_has_it() -> None:
    desk = Desk()
    desk.board.given_up(desk.task)
    assert desk.board.tasks == {}
    again = Submission("1-2", "o-2", 0.0, desk.submission.spool, desk.submission.owner)
    again.tasks = [Task("run.1.1", Ticket("1-2", 1), again)]
    desk.board.add(again)
    desk.board.ended(desk.task, outcome(Reason.FAILED))  # of the old one, whatever that may be
    assert desk.ends == []
    desk.board.drop(desk.submission)
    assert desk.board.tasks == {"run.1.1": again.tasks[0]}
    assert desk.task.cancel_at == NEVER


def test_a_ticket_of_nobody() -> None:
    desk = Desk()
    assert desk.board.of(Ticket("1-1", 1)) is desk.task
    assert desk.board.of(Ticket("1-1", 2)) is None
    assert desk.board.of(Ticket("1-1", 0)) is None
    assert desk.board.of(Ticket("2-1", 1)) is None


@given(
    st.lists(
        st.sampled_from(["queued", "running", "over", "missed", "surely", "started", "done", "killed", "ask", "time"]),
        max_size=30,
    )
)
def test_whatever_comes_in_whatever_order_there_is_one_end_at_most(story: list[str]) -> None:
    desk = Desk()
    steps: dict[str, Callable[[], object]] = {
        "queued": lambda: desk.board.saw(desk.task, QUEUED),
        "running": lambda: desk.board.saw(desk.task, RUNNING),
        "over": lambda: desk.board.saw(desk.task, over(Reason.FAILED)),
        "missed": lambda: desk.board.missed(desk.task, surely=False),
        "surely": lambda: desk.board.missed(desk.task, surely=True),
        "started": lambda: desk.board.started(desk.task, CLAIM),
        "done": lambda: desk.board.ended(desk.task, outcome()),
        "killed": lambda: desk.board.ended(desk.task, outcome(Reason.KILLED)),
        "ask": lambda: desk.board.ask(desk.task),
    }
    for word in story:
        if word == "time":
            desk.time += 50
            desk.conclude()
        else:
            steps[word]()
        assert len(desk.ends) <= 1
        assert desk.task.wanted == (not desk.ends)


# Limits ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.1, 4), max_size=30), st.floats(0, 8))
def test_limits_hold_but_for_one_alone(cores: list[float], most: float) -> None:
    limits = Limits(cores=most)
    taken = []
    for number, wanted in enumerate(cores):
        if limits.fits(Resources(cores=wanted)):
            limits.take(str(number), Resources(cores=wanted))
            taken.append(wanted)
    assert not most or sum(taken) <= most + 1e-6 or len(taken) == 1
    assert bool(taken) == bool(cores)
    for number in range(len(cores)):
        limits.give_back(str(number))
    assert limits.fits(Resources(cores=1000))


def test_limits_of_memory_and_disk() -> None:
    limits = Limits(memory=10, disk=10)
    limits.take("a", Resources(memory=6, disk=1))
    assert not limits.fits(Resources(memory=5))
    assert not limits.fits(Resources(disk=10))
    assert limits.fits(Resources(memory=4, disk=9))
    assert limits.give_back("a")
    assert not limits.give_back("a")
