"""Who gets what: from the line to the hosts, and back from a host that has too much to one that has room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orch.adapters.agents.board import Board, together
from orch.adapters.agents.member import Held, Member
from orch.adapters.agents.places import Places
from orch.adapters.agents.rooms import Room, choose, level
from orch.attempt import Attempt, Reason


class Dealer:
    """Hands attempts over. It is durable who gets one before he hears of it."""

    def __init__(self, board: Board, places: Places) -> None:
        self._board = board
        self._places = places

    async def work(self) -> None:
        """For ever."""
        while True:
            await self._board.wake.wait()
            self._board.wake.clear()
            chosen = self._choose()
            if not chosen:
                await self._level()
                continue
            await asyncio.to_thread(
                self._places.write, {member.name: [held.key for held in group] for member, group in chosen.items()}
            )
            for member, group in chosen.items():
                await self._give(member, group)

    def _choose(self) -> dict[Member, list[Held]]:
        """Take from the line what fits somewhere now."""
        members = [each for each in self._board.members.values() if each.session is not None and not each.leaving]
        if not self._board.waiting or not members:
            return {}
        now = self._board.loop.time()
        rooms = [member.room(now) for member in members]
        pairs = choose([held.wanted for held in self._board.waiting], rooms, self._limit(rooms))
        chosen: dict[Member, list[Held]] = {}
        for position, place in pairs:
            held, member = self._board.waiting[position], members[place]
            held.member = member
            member.held[held.key] = held
            chosen.setdefault(member, []).append(held)
        taken = {position for position, _ in pairs}
        self._board.waiting = [held for position, held in enumerate(self._board.waiting) if position not in taken]
        return chosen

    async def _level(self) -> None:
        """Where a host has nothing to do, and another more than it can do at once, take something back from that."""
        members = [each for each in self._board.members.values() if each.session is not None]
        if self._board.waiting or len(members) < 2:
            return
        now = self._board.loop.time()
        idle = [[held for held in member.held.values() if held.idles] for member in members]
        rooms = [member.room(now) for member in members]
        for member, room in zip(members, rooms, strict=True):
            if member.leaving:
                room.total = together([])
        for place, position in level([[held.wanted for held in each] for each in idle], rooms):
            held, session = idle[place][position], members[place].session
            held.moving = self._board.number()
            if session is not None:
                await session.withdraw([held.key], held.moving)

    def _limit(self, rooms: Sequence[Room]) -> Room | None:
        """What the run may use at once, where that is less than there is; then nothing is handed over ahead."""
        info = self._board.info
        if not (info.cores or info.memory or info.disk):
            return None
        limit = Room(self._board.capacity())
        for member in self._board.members.values():
            for held in member.held.values():
                if not held.over:
                    limit.use(held.wanted)
        for room in rooms:
            room.ahead = 0
        return limit

    async def _give(self, member: Member, group: list[Held]) -> None:
        given: list[Attempt] = []
        for held in group:
            if self._board.held.get(held.key) is not held or held.member is not member:
                continue  # dropped meanwhile
            if held.cancelled:
                self._board.end(held, Reason.KILLED, "ended on request")
            elif member.session is None or member.leaving:
                del member.held[held.key]
                self._board.wait(held)
            else:
                assert held.attempt is not None
                held.handed = True
                given.append(held.attempt)
        if given:
            assert member.session is not None
            await member.session.submit(given)
            if stopped := [held.key for held in group if held.stopped and held.handed]:
                await member.session.stop_services(stopped)
