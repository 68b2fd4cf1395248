"""What a session over several agents knows, and what all its parts do with that."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Coroutine, Sequence

import msgspec

from orch.adapters.agents.member import Held, Member, Standing
from orch.adapters.contract import Capacity, Finished, Queued, RunInfo, Said, Update
from orch.adapters.local import AHEAD
from orch.attempt import Attempt, Outcome, Reason


class Board:
    """The state of one session. `asked`: the leader has said which attempts it knows; `waiting` is the line.

    `wake` is set when something may be handed over, `news` when the leader has something to hear.
    """

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        self.loop = asyncio.get_running_loop()
        self.members: dict[str, Member] = {}
        self.held: dict[str, Held] = {}
        self.waiting: list[Held] = []
        self.updates: list[Update] = []
        self.changed = False
        self.news = asyncio.Event()
        self.wake = asyncio.Event()
        self.trouble: BaseException | None = None
        self.asked = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._number = 0

    def number(self) -> int:
        """One that was not used before."""
        self._number += 1
        return self._number

    # Attempts -------------------------------------------------------------------------------------------------

    def hold(self, key: str, attempt: Attempt | None = None) -> Held:
        """Know of it."""
        held = self.held[key] = Held(key, self.number(), attempt)
        return held

    def wait(self, held: Held) -> None:
        """Put it into the line, by its priority and its age."""
        held.member, held.handed, held.seen, held.find, held.moving = None, False, False, 0, 0
        bisect.insort(self.waiting, held, key=lambda each: each.rank)
        self.wake.set()

    def forget(self, held: Held) -> None:
        """Know of it no more."""
        self.held.pop(held.key, None)
        if held.member is not None:
            held.member.held.pop(held.key, None)

    def end(self, held: Held, reason: Reason, message: str) -> None:
        """It is over, and no host says so."""
        host = held.member.name if held.member is not None else ""
        self.finish(held, Outcome(key=held.key, reason=reason, message=message, host=host))

    def finish(self, held: Held, outcome: Outcome) -> None:
        """It is over, and this is known from elsewhere than from its host."""
        held.over = True
        if held.member is not None:
            held.member.held.pop(held.key, None)
        self.tell(Finished(held.key, outcome))
        self.wake.set()

    def assume(self, held: Held) -> None:
        """Its host cannot be asked for now: it counts as queued there, so that nobody waits for the answer."""
        assert held.member is not None
        held.seen, held.ask = True, 0
        self.tell(Queued(held.key, held.member.name))

    async def ask(self, member: Member) -> None:
        """Ask a host what became of what it was given. It ends all else."""
        session = member.session
        if session is None or not self.asked:
            return
        number = self.number()
        keys = [key for key, held in member.held.items() if held.handed]
        for key in keys:
            member.held[key].find = number
        await session.find(keys, number)
        if cancelled := [key for key in keys if member.held[key].cancelled]:
            await session.cancel(cancelled)
        if stopped := [key for key in keys if member.held[key].stopped]:
            await session.stop_services(stopped)

    # Hosts ----------------------------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """All hosts together, within the limits of the run."""
        there = [member.capacity for member in self.members.values() if member.counts and member.capacity is not None]
        total = together(there)
        info = self.info
        return msgspec.structs.replace(
            total,
            cores=min(info.cores or total.cores, total.cores),
            memory=min(info.memory or total.memory, total.memory),
            disk=min(info.disk or total.disk, total.disk),
            beyond=total,
        )

    def shown(self) -> str:
        """The hosts, for people."""
        return ", ".join(
            f"{each.name}: {each.capacity.cores:g} cores"
            + ("" if each.standing is Standing.UP else f", {each.standing.value}")
            for each in self.members.values()
            if each.capacity is not None
        )

    # What the leader hears ------------------------------------------------------------------------------------

    def tell(self, update: Update) -> None:
        """Have the leader hear it."""
        self.updates.append(update)
        self.news.set()

    def say(self, text: str) -> None:
        """Have the user hear it."""
        self.tell(Said(text))

    def change(self) -> None:
        """There is more, or less, than there was."""
        self.changed = True
        self.news.set()
        self.wake.set()

    # Tasks ----------------------------------------------------------------------------------------------------

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """A part of the session; what it raises ends all of it."""
        task = self.loop.create_task(self._supervise(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _supervise(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever ends a part of the session ends it, with this as its reason
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the session, with this as its reason."""
        self.trouble = self.trouble or error
        self.news.set()
        for member in self.members.values():
            member.tried.set()


def together(there: Sequence[Capacity]) -> Capacity:
    """The sum of these."""
    accelerators = [each for capacity in there for each in capacity.accelerators]
    return Capacity(
        cores=sum(each.cores for each in there),
        memory=sum(each.memory for each in there),
        disk=sum(each.disk for each in there),
        ahead=AHEAD * max(1, len(there)),
        accelerators=tuple(accelerators),
        places=tuple(there),
        trouble="; ".join(each.trouble for each in there if each.trouble),
        give_way=next((each.give_way for each in there if each.give_way), ""),
    )
