"""One run on several agents, each on a host of its own.

An attempt is given to one host: when that has room for it, and after it is durable which one it is (`places`). What
fits nowhere now waits here. A host that is cut off goes on by itself; the session goes on without it, finds it again,
and collects. One that is away for too long has lost what it was given. Its attempts may still run there; nobody listens
to them, and when it comes back they are ended.

Nothing runs twice: an attempt is given to another host only after the first has said, with all links to it cut off but
this one, that it never heard of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import msgspec

from orch.adapters.agents.attendance import Attendance
from orch.adapters.agents.board import Board
from orch.adapters.agents.dealer import Dealer
from orch.adapters.agents.host import LOST_AFTER, Host
from orch.adapters.agents.member import Held, Member, Standing
from orch.adapters.agents.places import Places
from orch.adapters.contract import Capacity, Queued, RunInfo, Session, Unknown, Update
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.events import Resources
from orch.errors import AdapterError
from orch.sizes import format_duration

PATIENCE = 30.0
"""Seconds that a run waits for its hosts before it begins with those that are there."""


class AgentsSession:
    """A session with any number of hosts. `open` it; `add` and `remove` hosts at any time.

    `lost_after`: seconds for which a host may be away before what it has is lost. `quiet`: that hosts come and go is
    nothing that the user is to be told.
    """

    def __init__(
        self, info: RunInfo, hosts: Iterable[Host], lost_after: float = LOST_AFTER, *, quiet: bool = False
    ) -> None:
        self._board = Board(info)
        self._places = Places(info.store, info.run, info.epoch)
        self._attendance = Attendance(self._board, lost_after, quiet=quiet)
        self._closed = False
        for host in hosts:
            self.add(host)
        self._board.begin(Dealer(self._board, self._places).work())

    async def open(self, patience: float = PATIENCE) -> None:
        """Wait until hosts are there. Raises `AdapterError` if there are none, and `Fenced`."""
        members = list(self._board.members.values())
        tried = asyncio.gather(*(member.tried.wait() for member in members))
        try:
            async with asyncio.timeout(patience):
                await tried
        except TimeoutError:
            pass
        if self._board.trouble is not None and not isinstance(self._board.trouble, AdapterError):
            raise self._board.trouble
        if not any(member.standing is Standing.UP for member in members):
            why = "\n".join(f"    {each.name}: {each.trouble or each.standing.value}" for each in members)
            raise AdapterError(f"none of the hosts can be used:\n{why}")
        for member in members:
            if not member.tried.is_set():
                self._board.say(f"host {member.name} does not answer so far: the run begins without it")

    # Hosts come and go ----------------------------------------------------------------------------------------

    def add(self, host: Host) -> None:
        """Have another host."""
        member = self._board.members[host.name] = Member(host)
        member.task = self._board.begin(self._attendance.attend(member))

    def ends_at(self, name: str, when: float) -> None:
        """A host is to be given only what is over by then (the loop's clock), as far as wall times tell."""
        self._board.members[name].until = when

    def drain(self, name: str) -> None:
        """Give a host nothing more to do, and take back what waits there: it is about to go."""
        member = self._board.members[name]
        if not member.leaving:
            member.leaving = True
            self._board.begin(self._take_back(member))
            self._board.change()

    async def _take_back(self, member: Member) -> None:
        idle = [held for held in member.held.values() if held.idles]
        number = self._board.number()
        for held in idle:
            held.moving = number
        if idle and member.session is not None:
            await member.session.withdraw([held.key for held in idle], number)

    def demand(self, share: Callable[[Resources], float]) -> float:
        """What all attempts come to that are not over, but for those on hosts that are about to go."""
        return sum(
            share(held.wanted)
            for held in self._board.held.values()
            if not held.over and not (held.member is not None and held.member.leaving)
        )

    def tell_line(self) -> None:
        """Say of those that no host has that they are queued, once."""
        for held in self._board.waiting:
            if not held.told:
                held.told = True
                self._board.tell(Queued(held.key))

    @property
    def forgotten(self) -> bool:
        """Is there no attempt of which anybody has to know?"""
        return not self._board.held

    def in_line(self, key: str) -> bool:
        """Is it one that no host has?"""
        held = self._board.held.get(key)
        return held is not None and held.member is None and not held.over

    @property
    def limits(self) -> RunInfo:
        """What the run may use at once."""
        return self._board.info

    def session(self, name: str) -> Session | None:
        """The connection to a host, while there is one."""
        return self._board.members[name].session

    def idle(self, name: str) -> bool:
        """Has a host nothing to do?"""
        return all(held.over for held in self._board.members[name].held.values())

    async def remove(
        self, name: str, why: str, reason: Reason = Reason.LOST, ends: Mapping[str, Outcome] | None = None
    ) -> None:
        """A host is gone for good; what it had has ended like this, but for what is known to have ended otherwise."""
        member = self._board.members.pop(name)
        assert member.task is not None
        member.task.cancel()
        await asyncio.gather(member.task, return_exceptions=True)
        for key, outcome in (ends or {}).items():
            held = member.held.get(key)
            if held is not None and not held.over:
                self._board.finish(held, outcome)
        self._attendance.lose(member, why, reason)
        self._board.change()

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the line."""
        for attempt in attempts:
            if attempt.key not in self._board.held:
                self._board.wait(self._board.hold(attempt.key, attempt))

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended. On a host that is cut off they end when it is back, or lost."""
        for key in keys:
            held = self._board.held.get(key)
            if held is None:
                self._board.tell(Unknown(key))
            elif not held.over:
                held.cancelled = True
                if held.member is None:
                    self._board.waiting.remove(held)
                    self._board.end(held, Reason.KILLED, "ended on request")
        await self._each(keys, "cancel")

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        for key in keys:
            if key in self._board.held:
                self._board.held[key].stopped = True
            else:
                self._board.tell(Unknown(key))
        await self._each(keys, "stop_services")

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What all hosts together may be used for."""
        self._board.info = msgspec.structs.replace(self._board.info, cores=cores, memory=memory, disk=disk)
        self._board.change()

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Have outcomes forgotten. A host that is cut off does it when it is asked what it has."""
        await self._each(keys, "acknowledge")
        for key in keys:
            held = self._board.held.get(key)
            if held is not None and held.over:
                self._board.forget(held)

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask each host about what it was given, and have it end all else. What nobody was given is unknown at once."""
        strange = [key for key in keys if key not in self._board.held]
        places = await asyncio.to_thread(self._places.read, strange) if strange else {}
        self._board.asked = True
        for key in set(self._board.held).difference(keys):
            self._drop(self._board.held[key])
        for key in keys:
            self._look_for(key, places.get(key, ""), ask)
        for member in list(self._board.members.values()):
            await self._board.ask(member)

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates. Raises `Fenced`, and `AdapterError` when there can be no host any more."""
        while True:
            await self._board.news.wait()
            if self._board.updates or self._board.changed:
                batch, self._board.updates, self._board.changed = self._board.updates, [], False
                yield batch
            elif self._board.trouble is not None:
                raise self._board.trouble
            else:
                self._board.news.clear()
                if self._closed:
                    return

    def capacity(self) -> Capacity:
        """All hosts together."""
        return self._board.capacity()

    def stand_still(self, *, waits: bool) -> None:
        """Tell the hosts, once the leader has heard all that they have said."""
        for member in self._board.members.values():
            if member.session is not None:
                member.session.stand_still(waits=waits and not self._board.updates and not self._board.waiting)

    async def describe(self, key: str) -> str:
        """Why an attempt does not run yet."""
        held = self._board.held.get(key)
        if held is None or held.over:
            return ""
        member = held.member
        if member is None:
            return f"waits for a host with room for it ({self._board.shown()})"
        if member.session is not None and held.handed:
            found = await member.session.describe(key)
            return f"on {member.name}: {found}" if found else ""
        away = format_duration(self._board.loop.time() - member.since)
        return f"was given to host {member.name}, which has been away for {away}: {member.trouble}"

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What a running attempt has written so far; nothing where its host is cut off."""
        held = self._board.held.get(key)
        session = held.member.session if held is not None and held.member is not None else None
        return await session.output(key) if session is not None else (b"", b"")

    async def close(self) -> None:
        """Let go. Live attempts go on."""
        self._closed = True
        self._board.news.set()
        for member in self._board.members.values():
            if member.timer is not None:
                member.timer.cancel()
        for task in self._board.tasks:
            task.cancel()
        await asyncio.gather(*self._board.tasks, return_exceptions=True)
        self._places.close()

    # Attempts -------------------------------------------------------------------------------------------------

    def _drop(self, held: Held) -> None:
        """The leader does not know it any more. Its host is about to be told what to keep."""
        if held.member is None and not held.over:
            self._board.waiting.remove(held)
        self._board.forget(held)

    def _look_for(self, key: str, place: str, ask: int) -> None:
        """Have something said of one that the leader asks about."""
        held = self._board.held.get(key)
        if held is None and not place:
            self._board.tell(Unknown(key, ask))
            return
        if held is not None and held.member is None:  # in the line: it may be handed over anew
            if not held.over:
                self._board.waiting.remove(held)
            self._board.forget(held)
            self._board.tell(Unknown(key, ask))
            return
        if held is None:
            held = self._board.hold(key)
            held.handed = True
            member = held.member = self._board.members.get(place)
            if member is None:
                self._board.end(held, Reason.LOST, f"it was given to host {place}, which this run has no more")
                return
            member.held[key] = held
        assert held.member is not None
        if held.member.session is not None:
            held.ask = ask
        elif held.member.given_up:
            self._board.end(held, Reason.LOST, f"host {held.member.name} is away: {held.member.trouble}")
        else:
            self._board.assume(held)

    async def _each(self, keys: Sequence[str], what: str) -> None:
        """Say something about attempts to the hosts that have them."""
        said: dict[Member, list[str]] = {}
        for key in keys:
            held = self._board.held.get(key)
            if held is not None and held.handed and held.member is not None:
                said.setdefault(held.member, []).append(key)
        for member, own in said.items():
            if member.session is not None:
                await getattr(member.session, what)(own)
