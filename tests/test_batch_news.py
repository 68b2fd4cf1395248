"""What a worker has said is told before its end, however that is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import TypeGuard

import pytest

from orch.adapters.batch.board import Board
from orch.adapters.batch.news import News
from orch.adapters.batch.records import Submission, Task
from orch.adapters.contract import Finished, Update
from orch.attempt import Note, Outcome, Reason
from orch.worker.spool import Spool, Ticket

TICKET = Ticket("1-1", 1)


class Spoken:
    """News of one task, whose files are all there: what it said in two parts, and its end."""

    def __init__(self, root: Path) -> None:
        self.told: list[Update] = []
        self.ignored: list[object] = []
        self.spool = Spool(str(root), "run")
        self.spool.make()
        board = Board(
            tell=self.told.append,
            say=self.ignored.append,
            remove=self.ignored.append,
            hurry=lambda: None,
            added=lambda: None,
            lag=1.0,
            missing_after=1.0,
            now=lambda: 0.0,
        )
        submission = Submission("1-1", "o-1", 0.0, self.spool, self, job="9")  # type: ignore[arg-type]
        self.task = Task("run.1.1", TICKET, submission)
        submission.tasks = [self.task]
        board.add(submission)
        self.news = News(self.spool, board, self.ignored.append)
        for number in (1, 2):
            self.spool.put_notes(TICKET, number, [Note("run.1.1", "annotate", str(number), number)])
        self.spool.put_outcome(TICKET, Outcome("run.1.1", Reason.FINISHED))

    def task_id(self, job: str, index: int, _size: int) -> str:
        return f"{job}.{index}"

    @property
    def heard(self) -> list[str]:
        return [update.name if isinstance(update, Note) else "end" for update in self.told if self._is_one(update)]

    @staticmethod
    def _is_one(update: Update) -> TypeGuard[Note | Finished]:
        return isinstance(update, Note | Finished)


async def test_by_a_look_at_the_outcome(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path)
    await spoken.news.check([spoken.task])
    await spoken.news.look()
    assert spoken.heard == ["1", "2", "end"]


@pytest.mark.parametrize("missed", [{"1-1.1.1.notes"}, {"1-1.1.2.notes"}, {"1-1.1.1.notes", "1-1.1.2.notes"}, set()])
async def test_by_a_listing_that_was_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missed: set[str]
) -> None:
    spoken = Spoken(tmp_path)
    listings = [[name for name in spoken.spool.news() if name not in missed]]
    whole = spoken.spool.news
    monkeypatch.setattr(spoken.spool, "news", lambda: listings.pop() if listings else whole())
    await spoken.news.look()
    await spoken.news.look()
    assert spoken.heard == ["1", "2", "end"]
