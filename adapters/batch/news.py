"""What workers say, noticed by the files that they leave; and what is concluded where they left none.

One listing of one folder tells of all tasks of a run. It is made often while there is news, and every two seconds while
there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from orch.adapters.batch.board import Board
from orch.adapters.batch.captured import captured, head_and_tail
from orch.adapters.batch.pace import Rhythm
from orch.adapters.batch.records import Submission, Task
from orch.attempt import Note, Outcome, Reason
from orch.bus.events import INLINE_LIMIT
from orch.bus.hands import hands
from orch.worker.spool import Claim, Spool, Ticket

LEAST = 0.1
MOST = 2.0
"""Seconds between listings, while there is news and while there is none."""

REFRESH = 1.0
"""Seconds after which a file server's client is made to ask the server, and not its memory."""

CLEARED_EVERY = 3.0
"""Seconds: what is over goes in portions, for each takes a listing of everything."""

NOTES_KEPT = 10.0
"""Seconds for which notes stay once they were told: a leader that comes after a crash tells few of them twice."""

AT_ONCE = 500
"""Files that are read before others have their turn."""


Content = Claim | Outcome | list[Note] | None
"""Of a file of news; None: it is not there, or makes no sense."""


class Item(NamedTuple):
    """A file of news: `kind` started, notes or done; `number` of notes."""

    name: str
    ticket: Ticket
    kind: str
    number: int = 0


def parse(name: str) -> Item | None:
    """What a file of news is, by its name; None: none of ours."""
    parts = name.split(".")
    try:
        ticket = Ticket(parts[0], int(parts[1]))
        if len(parts) == 3 and parts[2] in ("started", "done"):
            return Item(name, ticket, parts[2])
        if len(parts) == 4 and parts[3] == "notes":
            return Item(name, ticket, "notes", int(parts[2]))
    except (ValueError, IndexError):
        pass
    return None


def _order(item: Item) -> tuple[Ticket, bool, int]:
    """Of a task: started, notes, done."""
    return item.ticket, item.kind == "done", item.number


class Account(NamedTuple):
    """What there is of a task that the batch system says is over. `said`: what its worker has printed."""

    outcome: Outcome | None
    claim: Claim | None
    said: str


class News:
    """Of one run."""

    def __init__(self, spool: Spool, board: Board, say: Callable[[str], None]) -> None:
        self._spool = spool
        self._board = board
        self._say = say
        self._trouble = ""
        self._known: set[str] = set()
        self._rhythm = Rhythm(LEAST, MOST)
        self._refreshed = 0.0
        self._cleared = 0.0
        self._told: list[tuple[float, str]] = []
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something to listen for."""
        self._rhythm.hurry()
        self._woken.set()

    def read_again(self) -> None:
        """There are tasks now of which there may be old news."""
        self._known.clear()
        self.wake()

    async def run(self) -> None:
        """Listen, for ever."""
        while True:
            self._woken.clear()
            changed = False
            try:
                changed = await self.look()
                await self.clear()
                self._trouble = ""
            except OSError as error:  # of a file server, mostly: that may pass, and the log says so if it does not
                self._say_trouble(error)
            wait = self._rhythm.look(changed=changed)
            idle = not (self._board.active or self._board.submissions)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if idle else wait):
                    await self._woken.wait()

    def _say_trouble(self, error: OSError) -> None:
        text = error.strerror or str(error)
        if text != self._trouble:
            self._trouble = text
            self._say(f"{self._spool.root} cannot be read: {text}; orch goes on trying")

    async def look(self) -> bool:
        """Take in what is new; was there anything?"""
        names = await hands().run(self._list)
        new = sorted(names - self._known)
        items = [item for item in map(parse, new) if item is not None and self._board.of(item.ticket) is not None]
        self._known &= names
        items.sort(key=_order)
        for first in range(0, len(items), AT_ONCE):
            part = items[first : first + AT_ONCE]
            for item, found in await hands().run(self._read, part):
                self._take(item, found)
            self._known |= {item.name for item in part}  # and not before: what could not be read is read again
        for task in self._board.due():
            await self._conclude(task)
        return bool(items)

    def _list(self) -> set[str]:
        now = time.monotonic()
        if now - self._refreshed >= REFRESH:
            self._refreshed = now
            with contextlib.suppress(OSError):  # then it takes longer until it is seen
                self._spool.refresh()
        return set(self._spool.news())

    def _read(self, items: Sequence[Item]) -> list[tuple[Item, Content]]:
        found = [(item, self._content(item)) for item in items]
        ended = {item.ticket for item, content in found if isinstance(content, Outcome)}
        known = {item.name for item in items}
        missed = [each for each in self._notes_of(ended) if each[0].name not in known]
        return sorted([*found, *missed], key=lambda each: _order(each[0])) if missed else found

    def _notes_of(self, tickets: Collection[Ticket]) -> list[tuple[Item, Content]]:
        """What was said before an end.

        A listing that was under way meanwhile may have the end and not that (readdir(3)); one that begins when the end
        is there has all.
        """
        items = [parse(name) for name in self._spool.news()] if tickets else []
        notes = [item for item in items if item is not None and item.kind == "notes" and item.ticket in tickets]
        return [(item, self._content(item)) for item in sorted(notes, key=_order)]

    def _content(self, item: Item) -> Content:
        try:
            if item.kind == "started":
                return self._spool.started(item.ticket)
            if item.kind == "notes":
                return self._spool.notes(item.name)
            return self._spool.outcome(item.ticket)
        except ValueError as error:
            if item.kind != "done":
                return None
            task = self._board.of(item.ticket)
            assert task is not None
            return Outcome(key=task.key, reason=Reason.PARTITION, message=f"its outcome cannot be read: {error}")

    def _take(self, item: Item, found: Content) -> None:
        task = self._board.of(item.ticket)
        if task is None:
            return
        if isinstance(found, Claim):
            self._board.started(task, found)
        elif isinstance(found, Outcome):
            self._board.ended(task, found)
        elif found:
            self._board.noted(task, item.number, found)
            if all(note.kind != "up" for note in found):  # that has to be said again to each new leader
                self._told.append((time.monotonic(), item.name))

    # What left no outcome -------------------------------------------------------------------------------------

    async def check(self, tasks: Iterable[Task]) -> None:
        """Take in the outcomes of these tasks, if there are any."""
        items = [Item(f"{task.ticket}.done", task.ticket, "done") for task in tasks if not task.gone]
        for item, found in await hands().run(self._read_anew, items):
            self._take(item, found)

    def _read_anew(self, items: Sequence[Item]) -> list[tuple[Item, Content]]:
        with contextlib.suppress(OSError):
            self._spool.refresh()
        return self._read(items)

    async def _conclude(self, task: Task) -> None:
        account = await hands().run(self._account, task)
        for item, found in await hands().run(self._notes_of, {task.ticket}):
            self._take(item, found)
        outcome = self._board.conclude(task, *account)
        if outcome is None:
            return
        if not (outcome.stdout.size or outcome.stderr.size):
            outcome = await hands().run(self._with_output, task, outcome, account.claim)
        self._board.concluded(task, outcome)

    def _account(self, task: Task) -> Account:
        """See to it that no worker begins with it any more, and look what there is."""
        claim = self._spool.revoke([task.ticket]).get(task.ticket)
        outcome = self._content(Item("", task.ticket, "done"))
        said = head_and_tail(self._spool.path("output", f"{task.ticket}.log"), INLINE_LIMIT)[0]
        return Account(outcome if isinstance(outcome, Outcome) else None, claim, said.decode("utf-8", "replace"))

    def _with_output(self, task: Task, outcome: Outcome, claim: Claim | None) -> Outcome:
        """With what it had printed: that is not lost with its worker."""
        if claim is None:
            return outcome
        _, attempt = self._spool.order(task.ticket)
        return captured(self._spool, task.ticket, outcome, attempt, claim) if attempt is not None else outcome

    # Clearing up ----------------------------------------------------------------------------------------------

    async def clear(self, *, last: bool = False) -> None:
        """Remove what is over, if it is time for that."""
        now = time.monotonic()
        if now - self._cleared < CLEARED_EVERY and not last:
            return
        self._cleared = now
        old = [name for at, name in self._told if now - at >= NOTES_KEPT]
        self._told = [(at, name) for at, name in self._told if now - at < NOTES_KEPT]
        over = {each for each in self._board.submissions.values() if _is_over(each, last=last)}
        tickets = [
            task.ticket
            for each in self._board.submissions.values()
            if each not in over
            for task in each.tasks
            if task.acked and not task.wanted and not task.cleared
        ]
        if not (old or over or tickets):
            return
        for submission in over:
            self._board.drop(submission)
        with contextlib.suppress(OSError):  # it stays, and goes with the run
            await hands().run(self._spool.clear, tickets, [each.name for each in over], old)
        for ticket in tickets:
            task = self._board.of(ticket)
            if task is not None:
                task.cleared = True


def _is_over(submission: Submission, *, last: bool) -> bool:
    """Is nothing left of it, that anybody wants or that could begin? `last`: what is to be removed has been told."""
    return all(
        task.acked and not task.wanted and (task.gone or (last and task.cancels > 0)) for task in submission.tasks
    )
