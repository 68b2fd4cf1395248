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
import bisect
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence

import msgspec

from orch.adapters.agents.host import LOST_AFTER, Host, HostSession, Refusal
from orch.adapters.agents.member import Held, Member, Standing
from orch.adapters.agents.places import Places
from orch.adapters.agents.rooms import Room, choose, level
from orch.adapters.contract import (
    Capacity,
    Finished,
    OfAttempt,
    Queued,
    RunInfo,
    Said,
    Started,
    Unknown,
    Update,
)
from orch.adapters.local import AHEAD
from orch.attempt import Attempt, Outcome, Reason
from orch.errors import AdapterError
from orch.sizes import format_duration

PATIENCE = 30.0
"""Seconds that a run waits for its hosts before it begins with those that are there."""

_SOON, _SELDOM = 0.5, 30.0
"""Seconds between tries to reach a host: at first, and when it is away for long."""


class AgentsSession:
    """A session with any number of hosts. `open` it; `add` and `remove` hosts at any time.

    `lost_after`: seconds for which a host may be away before what it has is lost.
    """

    def __init__(self, info: RunInfo, hosts: Iterable[Host], lost_after: float = LOST_AFTER) -> None:
        self._info = info
        self._lost_after = lost_after
        self._loop = asyncio.get_running_loop()
        self._places = Places(info.store, info.run, info.epoch)
        self._members: dict[str, Member] = {}
        self._held: dict[str, Held] = {}
        self._waiting: list[Held] = []
        self._updates: list[Update] = []
        self._changed = False
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._trouble: BaseException | None = None
        self._closed = False
        self._asked = False  # the leader has said which attempts it knows
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        for host in hosts:
            self.add(host)
        self._begin(self._hand_over())

    async def open(self, patience: float = PATIENCE) -> None:
        """Wait until hosts are there. Raises `AdapterError` if there are none, and `Fenced`."""
        members = list(self._members.values())
        tried = asyncio.gather(*(member.tried.wait() for member in members))
        try:
            async with asyncio.timeout(patience):
                await tried
        except TimeoutError:
            pass
        if self._trouble is not None and not isinstance(self._trouble, AdapterError):
            raise self._trouble
        if not any(member.standing is Standing.UP for member in members):
            why = "\n".join(f"    {each.name}: {each.trouble or each.standing.value}" for each in members)
            raise AdapterError(f"none of the hosts can be used:\n{why}")
        for member in members:
            if not member.tried.is_set():
                self._say(f"host {member.name} does not answer so far: the run begins without it")

    # Hosts come and go ----------------------------------------------------------------------------------------

    def add(self, host: Host) -> None:
        """Have another host."""
        member = self._members[host.name] = Member(host)
        member.task = self._begin(self._attend(member))

    def drain(self, name: str) -> None:
        """Give a host nothing more to do: it is about to go."""
        self._members[name].leaving = True
        self._change()

    def idle(self, name: str) -> bool:
        """Has a host nothing to do?"""
        return all(held.over for held in self._members[name].held.values())

    async def remove(self, name: str, why: str) -> None:
        """A host is gone for good; what it had is lost."""
        member = self._members.pop(name)
        assert member.task is not None
        member.task.cancel()
        await asyncio.gather(member.task, return_exceptions=True)
        self._lose(member, why)
        self._change()

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the line."""
        for attempt in attempts:
            if attempt.key not in self._held:
                self._wait(self._hold(attempt.key, attempt))

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended. On a host that is cut off they end when it is back, or lost."""
        for key in keys:
            held = self._held.get(key)
            if held is None:
                self._tell(Unknown(key))
            elif not held.over:
                held.cancelled = True
                if held.member is None:
                    self._waiting.remove(held)
                    self._end(held, Reason.KILLED, "ended on request")
        await self._each(keys, "cancel")

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        for key in keys:
            if key in self._held:
                self._held[key].stopped = True
            else:
                self._tell(Unknown(key))
        await self._each(keys, "stop_services")

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What all hosts together may be used for."""
        self._info = msgspec.structs.replace(self._info, cores=cores, memory=memory, disk=disk)
        self._change()

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Have outcomes forgotten. A host that is cut off does it when it is asked what it has."""
        await self._each(keys, "acknowledge")
        for key in keys:
            held = self._held.get(key)
            if held is not None and held.over:
                self._forget(held)

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask each host about what it was given, and have it end all else. What nobody was given is unknown at once."""
        strange = [key for key in keys if key not in self._held]
        places = await asyncio.to_thread(self._places.read, strange) if strange else {}
        self._asked = True
        for key in set(self._held).difference(keys):
            self._drop(self._held[key])
        for key in keys:
            self._look_for(key, places.get(key, ""), ask)
        for member in self._members.values():
            await self._ask(member)

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates. Raises `Fenced`, and `AdapterError` when there can be no host any more."""
        while True:
            await self._news.wait()
            if self._updates or self._changed:
                batch, self._updates, self._changed = self._updates, [], False
                yield batch
            elif self._trouble is not None:
                raise self._trouble
            else:
                self._news.clear()
                if self._closed:
                    return

    def capacity(self) -> Capacity:
        """All hosts together."""
        there = [member.capacity for member in self._members.values() if member.counts and member.capacity is not None]
        total = _sum(there)
        info = self._info
        return msgspec.structs.replace(
            total,
            cores=min(info.cores or total.cores, total.cores),
            memory=min(info.memory or total.memory, total.memory),
            disk=min(info.disk or total.disk, total.disk),
            beyond=total,
        )

    def stand_still(self, *, waits: bool) -> None:
        """Tell the hosts, once the leader has heard all that they have said."""
        for member in self._members.values():
            if member.session is not None:
                member.session.stand_still(waits=waits and not self._updates and not self._waiting)

    async def describe(self, key: str) -> str:
        """Why an attempt does not run yet."""
        held = self._held.get(key)
        if held is None or held.over:
            return ""
        member = held.member
        if member is None:
            return f"waits for a host with room for it ({self._shown()})"
        if member.session is not None and held.handed:
            found = await member.session.describe(key)
            return f"on {member.name}: {found}" if found else ""
        away = format_duration(self._loop.time() - member.since)
        return f"was given to host {member.name}, which has been away for {away}: {member.trouble}"

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What a running attempt has written so far; nothing where its host is cut off."""
        held = self._held.get(key)
        session = held.member.session if held is not None and held.member is not None else None
        return await session.output(key) if session is not None else (b"", b"")

    async def close(self) -> None:
        """Let go. Live attempts go on."""
        self._closed = True
        self._news.set()
        for member in self._members.values():
            if member.timer is not None:
                member.timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._places.close()

    # Attempts -------------------------------------------------------------------------------------------------

    def _hold(self, key: str, attempt: Attempt | None = None) -> Held:
        self._number += 1
        held = self._held[key] = Held(key, self._number, attempt)
        return held

    def _wait(self, held: Held) -> None:
        """Put it into the line, by its priority and its age."""
        held.member, held.handed, held.seen, held.find, held.moving = None, False, False, 0, 0
        bisect.insort(self._waiting, held, key=lambda each: each.rank)
        self._wake.set()

    def _forget(self, held: Held) -> None:
        self._held.pop(held.key, None)
        if held.member is not None:
            held.member.held.pop(held.key, None)

    def _drop(self, held: Held) -> None:
        """The leader does not know it any more. Its host is about to be told what to keep."""
        if held.member is None:
            self._waiting.remove(held)
        self._forget(held)

    def _end(self, held: Held, reason: Reason, message: str) -> None:
        """It is over, and no host says so."""
        held.over = True
        if held.member is not None:
            held.member.held.pop(held.key, None)
        host = held.member.name if held.member is not None else ""
        self._tell(Finished(held.key, Outcome(key=held.key, reason=reason, message=message, host=host)))
        self._wake.set()

    def _look_for(self, key: str, place: str, ask: int) -> None:
        """Have something said of one that the leader asks about."""
        held = self._held.get(key)
        if held is None and not place:
            self._tell(Unknown(key, ask))
            return
        if held is not None and held.member is None:  # in the line: it may be handed over anew
            if not held.over:
                self._waiting.remove(held)
            self._forget(held)
            self._tell(Unknown(key, ask))
            return
        if held is None:
            held = self._hold(key)
            held.handed = True
            member = held.member = self._members.get(place)
            if member is None:
                self._end(held, Reason.LOST, f"it was given to host {place}, which this run has no more")
                return
            member.held[key] = held
        assert held.member is not None
        if held.member.session is not None:
            held.ask = ask
        elif held.member.given_up:
            self._end(held, Reason.LOST, f"host {held.member.name} is away: {held.member.trouble}")
        else:
            self._assume(held)

    def _assume(self, held: Held) -> None:
        """Its host cannot be asked for now: it counts as queued there, so that nobody waits for the answer."""
        assert held.member is not None
        held.seen, held.ask = True, 0
        self._tell(Queued(held.key, held.member.name))

    async def _ask(self, member: Member) -> None:
        """Ask a host what became of what it was given. It ends all else."""
        session = member.session
        if session is None or not self._asked:
            return
        self._number += 1
        keys = [key for key, held in member.held.items() if held.handed]
        for key in keys:
            member.held[key].find = self._number
        await session.find(keys, self._number)
        if cancelled := [key for key in keys if member.held[key].cancelled]:
            await session.cancel(cancelled)
        if stopped := [key for key in keys if member.held[key].stopped]:
            await session.stop_services(stopped)

    async def _each(self, keys: Sequence[str], what: str) -> None:
        """Say something about attempts to the hosts that have them."""
        said: dict[Member, list[str]] = {}
        for key in keys:
            held = self._held.get(key)
            if held is not None and held.handed and held.member is not None:
                said.setdefault(held.member, []).append(key)
        for member, own in said.items():
            if member.session is not None:
                await getattr(member.session, what)(own)

    # Handing over ---------------------------------------------------------------------------------------------

    async def _hand_over(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
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
        members = [each for each in self._members.values() if each.session is not None and not each.leaving]
        if not self._waiting or not members:
            return {}
        now = self._loop.time()
        rooms = [member.room(now) for member in members]
        pairs = choose([held.wanted for held in self._waiting], rooms, self._limit(rooms))
        chosen: dict[Member, list[Held]] = {}
        for position, place in pairs:
            held, member = self._waiting[position], members[place]
            held.member = member
            member.held[held.key] = held
            chosen.setdefault(member, []).append(held)
        taken = {position for position, _ in pairs}
        self._waiting = [held for position, held in enumerate(self._waiting) if position not in taken]
        return chosen

    async def _level(self) -> None:
        """Where a host has nothing to do, and another more than it can do at once, take something back from that."""
        members = [each for each in self._members.values() if each.session is not None]
        if self._waiting or len(members) < 2:
            return
        now = self._loop.time()
        idle = [[held for held in member.held.values() if held.idles] for member in members]
        rooms = [member.room(now) for member in members]
        for member, room in zip(members, rooms, strict=True):
            if member.leaving:
                room.total = _sum([])
        for place, position in level([[held.wanted for held in each] for each in idle], rooms):
            self._number += 1
            held, session = idle[place][position], members[place].session
            held.moving = self._number
            if session is not None:
                await session.withdraw([held.key], held.moving)

    def _limit(self, rooms: Sequence[Room]) -> Room | None:
        """What the run may use at once, where that is less than there is; then nothing is handed over ahead."""
        info = self._info
        if not (info.cores or info.memory or info.disk):
            return None
        limit = Room(self.capacity())
        for member in self._members.values():
            for held in member.held.values():
                if not held.over:
                    limit.use(held.wanted)
        for room in rooms:
            room.ahead = 0
        return limit

    async def _give(self, member: Member, group: list[Held]) -> None:
        given: list[Attempt] = []
        for held in group:
            if self._held.get(held.key) is not held or held.member is not member:
                continue  # dropped meanwhile
            if held.cancelled:
                self._end(held, Reason.KILLED, "ended on request")
            elif member.session is None:
                del member.held[held.key]
                self._wait(held)
            else:
                assert held.attempt is not None
                held.handed = True
                given.append(held.attempt)
        if given:
            assert member.session is not None
            await member.session.submit(given)
            if stopped := [held.key for held in group if held.stopped and held.handed]:
                await member.session.stop_services(stopped)

    # Hosts ----------------------------------------------------------------------------------------------------

    async def _attend(self, member: Member) -> None:
        """Be connected to a host, again and again."""
        pause = _SOON
        while True:
            try:
                session = await member.host.connect(self._info)
            except Refusal as error:
                self._away(member, error, Standing.REFUSED)
                return
            except AdapterError as error:
                self._away(member, error, Standing.NEW)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _SELDOM)
                continue
            pause = _SOON
            await self._stay(member, session)

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
            member.timer, member.given_up = None, True
        if member.standing is not Standing.NEW or member.trouble:
            self._say(f"host {member.name} is back")
        member.session, member.capacity = session, session.capacity()
        member.standing, member.trouble, member.given_up = Standing.UP, "", False
        member.tried.set()
        for remark in member.host.remarks:
            self._say(remark)
        await self._ask(member)
        self._change()

    def _away(self, member: Member, error: AdapterError, standing: Standing) -> None:
        """A host cannot be reached, or not any more."""
        member.session = None
        first = not member.trouble
        member.trouble = str(error)
        if first:
            member.since = self._loop.time()
            self._say(f"host {member.name}: {error}")
            member.timer = self._loop.call_later(self._lost_after, self._give_up, member)
        if standing is Standing.REFUSED or (standing is Standing.CUT and member.standing is Standing.UP):
            member.standing = standing
        for held in member.held.values():
            if held.ask:
                self._assume(held)
        member.tried.set()
        self._change()
        if all(each.standing is Standing.REFUSED for each in self._members.values()):
            self._fail(AdapterError(f"no host is left; the last one was {member.name}: {error}"))

    def _give_up(self, member: Member) -> None:
        """A host is away for too long."""
        member.timer, member.given_up = None, True
        if member.standing is Standing.CUT:
            member.standing = Standing.LOST
        away = format_duration(self._lost_after)
        lost = self._lose(member, f"host {member.name} could not be reached for {away}: {member.trouble}")
        if lost:
            self._say(
                f"host {member.name} could not be reached for {away}: its attempts ({lost}) are tried on other hosts; "
                "should it come back, it ends what it still runs of them"
            )
        self._change()

    def _lose(self, member: Member, why: str) -> int:
        lost = [held for held in member.held.values() if not held.over]
        for held in lost:
            if held.handed:
                self._end(held, Reason.KILLED if held.cancelled else Reason.LOST, why)
            else:  # the line is where it is still
                del member.held[held.key]
                self._wait(held)
        return len(lost)

    def _heard(self, member: Member, session: HostSession, batch: list[Update]) -> None:
        """What a host says."""
        if not batch:
            member.capacity = session.capacity()
            self._change()
        for update in batch:
            if isinstance(update, Said):
                self._say(update.text)
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
                member.ended(self._loop.time())
                self._wake.set()
            case Queued():
                update = Queued(held.key, member.name)
            case Started():
                held.began = True
                update = msgspec.structs.replace(update, id=member.name)
        held.seen, held.ask = True, 0
        self._tell(update)

    def _moved(self, member: Member, held: Held) -> None:
        """A host has given it back."""
        if held.cancelled:
            self._end(held, Reason.KILLED, "ended on request")
        else:
            del member.held[held.key]
            self._wait(held)

    def _never_heard(self, member: Member, held: Held) -> None:
        """A host does not know what it was given: the connection was cut before it heard of it, or it has forgotten."""
        if held.over:
            return
        if held.cancelled:
            self._end(held, Reason.KILLED, "ended on request")
        elif held.seen and not held.moving:
            self._end(held, Reason.LOST, f"the agent on host {member.name} does not know it any more")
        elif held.attempt is not None:
            del member.held[held.key]
            self._wait(held)
        else:
            self._forget(held)
            self._tell(Unknown(held.key, held.ask))

    # What the leader hears ------------------------------------------------------------------------------------

    def _tell(self, update: Update) -> None:
        self._updates.append(update)
        self._news.set()

    def _say(self, text: str) -> None:
        self._tell(Said(text))

    def _change(self) -> None:
        self._changed = True
        self._news.set()
        self._wake.set()

    def _shown(self) -> str:
        return ", ".join(
            f"{each.name}: {each.capacity.cores:g} cores"
            + ("" if each.standing is Standing.UP else f", {each.standing.value}")
            for each in self._members.values()
            if each.capacity is not None
        )

    # Tasks ----------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._supervise(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _supervise(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever ends a part of the session ends it, with this as its reason
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._trouble = self._trouble or error
        self._news.set()
        for member in self._members.values():
            member.tried.set()


def _sum(there: Sequence[Capacity]) -> Capacity:
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
