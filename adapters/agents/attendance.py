"""The hosts of a session: being connected to each, again and again, and hearing what it says."""

from __future__ import annotations

import asyncio

import msgspec

from orch.adapters.agents.board import Board
from orch.adapters.agents.host import HostSession, Refusal
from orch.adapters.agents.member import Held, Member, Standing
from orch.adapters.contract import Finished, OfAttempt, Queued, Said, Started, Unknown, Update
from orch.attempt import Reason
from orch.errors import AdapterError
from orch.sizes import format_duration

_SOON, _SELDOM = 0.2, 30.0
"""Seconds between tries to reach a host: at first, and when it is away for long."""

_STEADY = 30.0
"""Seconds after which a connection was a good one: those that are cut sooner are made less and less often."""


class Attendance:
    """Attends to the hosts of a session. `lost_after`: seconds for which one may be away before what it has is lost.

    `quiet`: that one is away, or is back, is not said.
    """

    def __init__(self, board: Board, lost_after: float, *, quiet: bool = False) -> None:
        self._board = board
        self._lost_after = lost_after
        self._quiet = quiet

    async def attend(self, member: Member) -> None:
        """Be connected to a host, again and again."""
        pause = _SOON
        while True:
            try:
                session = await member.host.connect(self._board.info)
            except Refusal as error:
                self._away(member, error, Standing.REFUSED)
                return
            except AdapterError as error:
                self._away(member, error, Standing.NEW)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _SELDOM)
                continue
            since = self._board.loop.time()
            await self._stay(member, session)
            pause = _SOON if self._board.loop.time() - since > _STEADY else min(2 * pause, _SELDOM)
            await asyncio.sleep(pause)

    async def _stay(self, member: Member, session: HostSession) -> None:
        """Listen to a host until the connection is cut."""
        try:
            await self._joined(member, session)
            async for batch in session.updates():
                self._heard(member, session, batch)
        except AdapterError as error:
            self._away(member, error, Standing.CUT)
        finally:
            member.session = None
            await session.close()

    async def _joined(self, member: Member, session: HostSession) -> None:
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None
        if (member.standing is not Standing.NEW or member.trouble) and not self._quiet:
            self._board.say(f"host {member.name} is back")
        member.session, member.capacity = session, session.capacity()
        member.standing, member.trouble, member.given_up = Standing.UP, "", False
        member.tried.set()
        for remark in member.host.remarks:
            self._board.say(remark)
        await self._board.ask(member)
        self._board.change()

    def _away(self, member: Member, error: AdapterError, standing: Standing) -> None:
        """A host cannot be reached, or not any more."""
        member.session = None
        first = not member.trouble
        member.trouble = str(error)
        if first:
            member.since = self._board.loop.time()
            if not self._quiet:
                self._board.say(f"host {member.name}: {error}")
            member.timer = self._board.loop.call_later(self._lost_after, self._give_up, member)
        if standing is Standing.REFUSED or (standing is Standing.CUT and member.standing is Standing.UP):
            member.standing = standing
        for held in member.held.values():
            if held.ask:
                self._board.assume(held)
        member.tried.set()
        self._board.change()
        if all(each.standing is Standing.REFUSED for each in self._board.members.values()):
            self._board.fail(AdapterError(f"no host is left; the last one was {member.name}: {error}"))

    def _give_up(self, member: Member) -> None:
        """A host is away for too long."""
        member.timer, member.given_up = None, True
        if member.standing is Standing.CUT:
            member.standing = Standing.LOST
        away = format_duration(self._lost_after)
        lost = self.lose(member, f"host {member.name} could not be reached for {away}: {member.trouble}")
        if lost:
            self._board.say(
                f"host {member.name} could not be reached for {away}: its attempts ({lost}) are tried on other hosts; "
                "should it come back, it ends what it still runs of them"
            )
        self._board.change()

    def lose(self, member: Member, why: str, reason: Reason = Reason.LOST) -> int:
        """What a host had is lost, or whatever else is the reason; how many attempts that is."""
        lost = [held for held in member.held.values() if not held.over]
        for held in lost:
            if held.handed:
                self._board.end(held, Reason.KILLED if held.cancelled else reason, why)
            else:  # the line is where it is still
                del member.held[held.key]
                self._board.wait(held)
        return len(lost)

    def _heard(self, member: Member, session: HostSession, batch: list[Update]) -> None:
        """What a host says."""
        if not batch:
            member.capacity = session.capacity()
            self._board.change()
        for update in batch:
            if isinstance(update, Said):
                self._board.say(update.text)
            else:
                self._learn(member, update)

    def _learn(self, member: Member, update: OfAttempt) -> None:
        held = member.held.get(update.outcome.key if isinstance(update, Finished) else update.key)
        if held is None:  # it was given up, or is not wanted
            return
        match update:
            case Unknown(_, ask):
                if ask and ask == held.moving and not held.over:
                    self._moved(member, held)
                elif ask and ask == held.find:
                    self._never_heard(member, held)
                return
            case Finished():
                held.over = True
                member.ended(self._board.loop.time())
                self._board.wake.set()
            case Queued():
                update = Queued(held.key, member.name)
            case Started():
                held.began = True
                update = msgspec.structs.replace(update, id=member.name)
        held.seen, held.ask = True, 0
        self._board.tell(update)

    def _moved(self, member: Member, held: Held) -> None:
        """A host has given it back."""
        if held.cancelled:
            self._board.end(held, Reason.KILLED, "ended on request")
        else:
            del member.held[held.key]
            self._board.wait(held)

    def _never_heard(self, member: Member, held: Held) -> None:
        """A host does not know what it was given: the connection was cut before it heard of it, or it has forgotten."""
        if held.over:
            return
        if held.cancelled:
            self._board.end(held, Reason.KILLED, "ended on request")
        elif held.seen and not held.moving:
            self._board.end(held, Reason.LOST, f"the agent on host {member.name} does not know it any more")
        elif held.attempt is not None:
            del member.held[held.key]
            self._board.wait(held)
        else:
            self._board.forget(held)
            self._board.tell(Unknown(held.key, held.ask))
