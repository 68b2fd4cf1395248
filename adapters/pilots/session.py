"""One run on pilots: asked for while attempts wait, given back when there is nothing to do, never too many.

A pilot is handed over to the batch system as an attempt is, by a `BatchSession`: so it has a ticket, and is found again
after a restart. Once it runs it is one host of an `AgentsSession`. What that holds when a pilot is over has ended as
the pilot's journal says, or is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence

import msgspec

from orch.adapters.agents.session import AgentsSession
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.session import UNKNOWN_SIZE, BatchSession, check_epoch
from orch.adapters.contract import Capacity, Finished, RunInfo, Said, Started, Unknown, Update
from orch.adapters.local import AHEAD
from orch.adapters.pilots import plan
from orch.adapters.pilots.choice import ADDRESS, PILOT, PilotChoice, parse_pilot
from orch.adapters.pilots.host import PilotHost
from orch.adapters.pilots.records import Known, Pilot, is_pilot, pilot_key, read_known
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.events import Accelerator, Blob, Resources
from orch.bus.hands import hands
from orch.errors import AdapterError, Fenced, UserError
from orch.sizes import format_duration, format_size
from orch.worker.pilot_files import Address, PilotFiles, PilotOrders
from orch.worker.spool import PILOT as FORM
from orch.worker.spool import Spool

LOOK = 1.0
"""Seconds between looks whether a pilot is to be asked for or given back, while nothing happens."""

GATHER = 0.1
"""Seconds between such looks at least."""

SAY_AFTER = 15.0
"""Seconds after which the user is told why there is no pilot yet."""

LEAVE_WITHIN = 3.0
"""Seconds in which pilots that were given back should be over before the run ends."""

HOPELESS = 3
"""Refusals of the batch system in a row after which there is no point in asking again."""


class PilotSession:
    """Of one run. `open` it."""

    def __init__(self, info: RunInfo, engine: Engine) -> None:
        self._info = info
        self._engine = engine
        self._choice = parse_pilot(info.options[PILOT])
        self._batch = BatchSession(msgspec.structs.replace(info, cores=0.0, memory=0, disk=0), engine)
        self._agents = AgentsSession(msgspec.structs.replace(info, environment={}, options={}), (), quiet=True)
        spool = Spool(info.store, info.run)
        self._spool = spool
        self._files = PilotFiles(spool)
        self._place = place_of(self._choice, engine)
        self._pilots: dict[str, Pilot] = {}  # by name
        self._foreign: set[str] = set()  # attempts that an earlier leader gave to the batch system itself
        self._numbers = 0
        self._failures = 0
        self._refusals = 0
        self._not_before = 0.0
        self._trouble = ""
        self._said = ""
        self._found = asyncio.Event()
        self._wake = asyncio.Event()
        self._news: asyncio.Queue[list[Update] | Exception] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Have the files for it. Raises `Fenced`, `OSError`."""
        await self._batch.open()
        await hands().run(self._files.make_secret)
        self._spawn(self._hear_batch())
        self._spawn(self._hear_agents())
        self._spawn(self._mind())

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the line of the pilots."""
        if not self._found.is_set():
            await self.find([])
        taken = []
        for attempt in attempts:
            why = plan.too_long(attempt.resources, self._choice)
            if why:
                outcome = Outcome(key=attempt.key, reason=Reason.ERROR, message=why)
                self._news.put_nowait([Finished(attempt.key, outcome)])
            else:
                taken.append(attempt)
        await self._agents.submit(taken)
        self._wake.set()

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended."""
        foreign, own = self._sides(keys)
        if foreign:
            await self._batch.cancel(foreign)
        await self._agents.cancel(own)

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        foreign, own = self._sides(keys)
        if foreign:
            await self._batch.stop_services(foreign)
        await self._agents.stop_services(own)

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What all pilots together may be used for."""
        await self._agents.limit(cores, memory, disk)

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Have outcomes forgotten."""
        foreign, own = self._sides(keys)
        if foreign:
            await self._batch.acknowledge(foreign)
            self._foreign.difference_update(foreign)
        await self._agents.acknowledge(own)

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask pilots about attempts, those of earlier leaders, too. What a pilot had that is over, its journal says."""
        first, new = not self._found.is_set(), list[Known]()
        if first:
            known = await hands().run(read_known, self._spool, self._files)
            new = [each for each in known if each.name not in self._pilots]
            self._foreign = (await hands().run(_keys, self._spool)).intersection(keys)
        for each in new:
            self._pilots[each.name] = Pilot(each.name, each.key, since=time.monotonic(), old=True)
            if each.began:
                self._host(self._pilots[each.name], dead=not each.live)
        dead = {each.name for each in new if not each.live}
        own_pilots = [each.key for each in self._pilots.values() if not each.over and each.name not in dead]
        foreign, own = self._sides(keys)
        await self._batch.find([*own_pilots, *foreign], ask)
        await self._agents.find(own, ask)
        for each in new:
            if each.name in dead:
                gone = Outcome(key=each.key, reason=Reason.LOST, message="it had ended before this leader began")
                await self._over(self._pilots[each.name], gone)
        self._found.set()
        self._wake.set()

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates. Raises `Fenced`, and `AdapterError` where there can be no pilot."""
        while True:
            batch = await self._news.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def capacity(self) -> Capacity:
        """What there is once all pilots are up."""
        nodes, place, info = self._choice.nodes, self._place, self._agents.limits
        total = Capacity(
            cores=nodes * place.cores,
            memory=min(nodes * place.memory, UNKNOWN_SIZE),
            disk=min(nodes * place.disk, UNKNOWN_SIZE),
            ahead=AHEAD * nodes,
            accelerators=place.accelerators * nodes,
            elastic=True,
            places=(place,) * nodes,
        )
        return msgspec.structs.replace(
            total,
            cores=min(info.cores or total.cores, total.cores),
            memory=min(info.memory or total.memory, total.memory),
            disk=min(info.disk or total.disk, total.disk),
            beyond=total,
        )

    def stand_still(self, *, waits: bool) -> None:
        """Other runs are not what this one waits for: pilots are its own."""

    async def describe(self, key: str) -> str:
        """Why an attempt does not run yet."""
        if key in self._foreign:
            return await self._batch.describe(key)
        if not self._agents.in_line(key):
            return await self._agents.describe(key)
        waiting = next((each for each in self._pilots.values() if not (each.began or each.over)), None)
        if waiting is not None:
            return f"waits for a pilot: {await self._batch.describe(waiting.key) or 'it is being handed over'}"
        if (wait := self._not_before - time.monotonic()) > 0:
            return f"waits for a pilot, which is asked for again in {format_duration(wait)}: {self._trouble}"
        live = sum(not each.over for each in self._pilots.values())
        return f"waits for room in a pilot ({live} of {self._choice.nodes} are there)"

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What a running attempt has written so far."""
        return await (self._batch if key in self._foreign else self._agents).output(key)

    async def close(self) -> None:
        """Let go. With attempts that are not over the pilots go on, for the next leader; else they are given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._agents.demand(lambda _: 1.0) and await self._leads():
            await self._end_all()
        await self._agents.close()
        await self._batch.close()

    async def _leads(self) -> bool:
        """Is this the leader still? Else another one needs what is here."""
        try:
            await hands().run(check_epoch, self._info)
        except (Fenced, OSError):
            return False
        return True

    def _sides(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those that the batch system itself has, and those for pilots."""
        return [key for key in keys if key in self._foreign], [key for key in keys if key not in self._foreign]

    # What is heard --------------------------------------------------------------------------------------------

    async def _hear_agents(self) -> None:
        async for batch in self._agents.updates():
            self._wake.set()
            self._news.put_nowait(batch)

    async def _hear_batch(self) -> None:
        async for batch in self._batch.updates():
            passed: list[Update] = []
            for update in batch:
                key = update.outcome.key if isinstance(update, Finished) else update.key
                if is_pilot(key):
                    await self._of_pilot(key, update)
                elif isinstance(update, Said) or key in self._foreign:
                    passed.append(update)
            if passed:
                self._news.put_nowait(passed)

    async def _of_pilot(self, key: str, update: Update) -> None:
        """News of a pilot."""
        pilot = next((each for each in self._pilots.values() if each.key == key), None)
        if pilot is None or pilot.over:
            return
        match update:
            case Started(host=host):
                pilot.node = host
                if not pilot.began:
                    self._host(pilot)
            case Finished(outcome=outcome):
                await self._found.wait()  # what it had has to be known first
                await self._over(pilot, outcome)
            case Unknown():
                await self._found.wait()
                await self._over(pilot, Outcome(key=key, reason=Reason.KILLED, message="it was never handed over"))
            case _:
                pass
        self._wake.set()

    def _host(self, pilot: Pilot, *, dead: bool = False) -> None:
        """It runs: have it as a host."""
        pilot.began = True
        self._agents.add(PilotHost(pilot.name, self._files, self._up, self._cut, dead=dead))

    def _up(self, name: str, address: Address) -> None:
        """It is connected."""
        pilot = self._pilots[name]
        pilot.node, pilot.was_up = address.host, True
        self._failures, self._refusals, self._trouble = 0, 0, ""
        if address.until:
            left = address.until - time.time()
            lasts = address.until - address.since
            pilot.drain_at = time.monotonic() + left - plan.last_part(lasts)
            self._agents.ends_at(name, asyncio.get_running_loop().time() + left - plan.last_part(lasts))
        self._wake.set()

    def _cut(self, name: str) -> None:
        """The connection is gone. If it is over, the batch system knows that first."""
        self._engine.watch.hurry()

    async def _over(self, pilot: Pilot, outcome: Outcome) -> None:
        """It is over. What it had has ended as its journal says; else it is lost."""
        if pilot.over:
            return
        pilot.over = True
        if not pilot.old or outcome.ended:
            self._judge(pilot, outcome)
        if pilot.began:
            ends = await hands().run(self._files.ends, pilot.name)
            reason = Reason.PREEMPTED if outcome.reason is Reason.PREEMPTED else Reason.LOST
            why = f"{pilot.shown} is over: {outcome.message or outcome.reason}"
            await self._agents.remove(pilot.name, why, reason, ends)
        await self._batch.acknowledge([pilot.key])
        del self._pilots[pilot.name]

    def _judge(self, pilot: Pilot, outcome: Outcome) -> None:
        """What its end means for those to come, and for the user."""
        if pilot.was_up or pilot.given_back:
            if outcome.reason is not Reason.FINISHED and not pilot.given_back:
                self._say(f"{pilot.shown} has ended: {outcome.message or outcome.reason}")
            return
        self._failures += 1
        self._trouble = outcome.message or str(outcome.reason)
        pause = plan.pause_after(self._failures)
        self._not_before = time.monotonic() + pause
        if outcome.reason is Reason.ERROR and not outcome.host:
            self._refusals += 1
            if self._refusals >= HOPELESS:
                self._news.put_nowait(AdapterError(f"{self._engine.name} takes no pilots: {self._trouble}"))
        self._say(
            f"{pilot.shown} has ended before it was of any use: {self._trouble}; the next one is asked for in "
            f"{format_duration(pause)}"
        )

    # Asking for pilots, and giving them back ------------------------------------------------------------------

    async def _mind(self) -> None:
        await self._found.wait()
        while True:
            self._wake.clear()
            self._drain()
            await self._give_back()
            await self._ask_for_more()
            if not any(pilot.was_up for pilot in self._pilots.values()):
                self._agents.tell_line()
            await self._explain()
            await asyncio.sleep(GATHER)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()

    def _until_next(self) -> float:
        """Seconds until it has to be looked again, if nothing happens."""
        ends = [pilot.drain_at for pilot in self._pilots.values() if not pilot.draining]
        return min([LOOK, *(max(0.0, each - time.monotonic()) for each in ends)])

    def _drain(self) -> None:
        now = time.monotonic()
        for pilot in self._pilots.values():
            if pilot.began and not pilot.over and now >= pilot.drain_at and not pilot.draining:
                pilot.draining = True
                self._agents.drain(pilot.name)

    async def _give_back(self) -> None:
        """Those that have had nothing to do for a while, or will get nothing to do any more."""
        now = time.monotonic()
        for pilot in [each for each in self._pilots.values() if each.was_up and not each.given_back and not each.over]:
            if not self._agents.idle(pilot.name):
                pilot.idle_since = now
            elif pilot.draining or (
                now - max(pilot.idle_since, pilot.since) >= self._choice.idle and self._live > self._choice.min
            ):
                await self._let_go(pilot)

    async def _let_go(self, pilot: Pilot) -> None:
        """Tell it to end; if it cannot be told, it finds out by itself, or the batch system ends it."""
        pilot.given_back = True
        self._agents.drain(pilot.name)
        session = self._agents.session(pilot.name)
        if session is not None:
            await session.stop_services([pilot.key])
        else:
            await self._batch.cancel([pilot.key])

    @property
    def _live(self) -> int:
        return sum(not (each.over or each.given_back) for each in self._pilots.values())

    async def _ask_for_more(self) -> None:
        now, there = time.monotonic(), sum(not each.over for each in self._pilots.values())
        demand = self._agents.demand(lambda wanted: plan.share(wanted, self._place))
        lacking = plan.pilots_wanted(self._choice, demand) - self._live
        lacking = min(lacking, self._choice.nodes - there)
        if self._failures:  # one is enough to see whether it goes well now
            lacking = min(lacking, 1 - sum(not each.was_up for each in self._pilots.values()))
        if lacking > 0 and now >= self._not_before:
            await self._batch.submit([self._order() for _ in range(lacking)])

    def _order(self) -> Attempt:
        """A pilot, as the batch system's session takes it."""
        self._numbers += 1
        choice, name = self._choice, f"pilot-{self._info.epoch}-{self._numbers}"
        key = pilot_key(self._info.run, name)
        self._pilots[name] = Pilot(name, key, since=time.monotonic())
        body = msgspec.json.encode(PilotOrders(idle=choice.idle, address=self._info.options.get(ADDRESS, "")))
        return Attempt(
            key=key,
            run=self._info.run,
            job=-1,
            attempt=1,
            epoch=self._info.epoch,
            kind="orch-pilot",
            name=name,
            form=FORM,
            body=Blob(data=body, size=len(body)),
            resources=Resources(
                cores=self._place.cores,
                memory=0 if self._place.memory == UNKNOWN_SIZE else self._place.memory,
                walltime=choice.time,
                queue=choice.queue,
                accelerators=self._place.accelerators,
            ),
        )

    async def _explain(self) -> None:
        """Say why there is no pilot, if it takes long."""
        waiting = [each for each in self._pilots.values() if not (each.began or each.over)]
        if not waiting or any(each.began for each in self._pilots.values()):
            return
        if time.monotonic() - waiting[0].since >= SAY_AFTER:
            why = await self._batch.describe(waiting[0].key)
            if why and why != self._said:
                self._said = why
                self._say(f"{len(waiting)} pilots wait, and none runs: {why}")

    async def _end_all(self) -> None:
        """Nothing is left to do: those that are up are told, the others are taken out of the queue."""
        for pilot in self._pilots.values():
            pilot.given_back = True
            session = self._agents.session(pilot.name) if pilot.began else None
            if session is not None:
                await session.stop_services([pilot.key])
            else:
                await self._batch.cancel([pilot.key])
        listening = asyncio.ensure_future(self._hear_batch())
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                while self._pilots and not listening.done():
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:  # the batch system's own command ends the rest
            await self._batch.cancel([pilot.key for pilot in self._pilots.values()])
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        if not self._pilots and self._agents.forgotten:
            await hands().run(self._files.remove_all)

    # Tasks ----------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._news.put_nowait([Said(text)])

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervise(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever ends a part of the session ends it, with this as its reason
            self._news.put_nowait(error)


def place_of(choice: PilotChoice, engine: Engine) -> Capacity:
    """What one pilot has, as far as that is known: a whole node, where nothing else was said. Raises `UserError`."""
    room = engine.room
    if room.node_cores and choice.cores > room.node_cores:
        raise UserError(f"{PILOT}: cores={choice.cores} is more than any node has: {room.node_cores:g}")
    if room.node_memory and choice.memory > room.node_memory:
        there = format_size(room.node_memory)
        raise UserError(f"{PILOT}: memory={format_size(choice.memory)} is more than any node has: {there}")
    whole = not choice.cores and bool(room.node_cores)
    node_memory = max(0, room.node_memory - engine.choices.overhead)
    return Capacity(
        cores=float(choice.cores or room.node_cores or 1),
        memory=choice.memory or (node_memory if whole and node_memory else UNKNOWN_SIZE),
        disk=UNKNOWN_SIZE,
        accelerators=(Accelerator(kind="gpu", count=choice.gpus),) if choice.gpus else (),
    )


def _keys(spool: Spool) -> set[str]:
    """All that earlier leaders gave to the batch system itself."""
    found: set[str] = set()
    for submission in spool.submissions():
        with contextlib.suppress(OSError, ValueError):  # it is being cleared up, or was never whole
            found.update(key for key in spool.header(submission).keys if not is_pilot(key))
    return found
