"""This host, by way of its agent (`orch.agent`): started when there is none, found when there is."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec

from orch.adapters.contract import Capacity, RunInfo, Update
from orch.agent import paths, protocol, start
from orch.attempt import Attempt
from orch.errors import AdapterError, Fenced

AHEAD = 64
"""Attempts handed over beyond those that fit: what the agent does during a turn and a sync of the leader."""

_ATTEMPTS = 5
"""How often an agent that leaves just as we come is replaced before we give up."""

_PAUSE = 0.2
"""Seconds until another agent is started in the place of one that died at once."""

_PATIENCE = 30.0
"""Seconds in which an agent has to answer a hello."""


class LocalAdapter:
    """Runs attempts on this host."""

    name = "local"

    async def open(self, info: RunInfo) -> LocalSession:
        """Connect a run. Raises `Fenced`, and `AdapterError` if no agent can be had."""
        session = LocalSession(info, dial)
        await session.connect()
        return session

    async def close(self) -> None:
        """Nothing: agents outlive leaders, and sessions are closed by whoever opened them."""


class LinkCut(AdapterError):
    """The connection to an agent is gone; the agent may be there still."""


class LocalSession:
    """One run's connection to the agent. `dial` reaches an agent.

    When the agent has died, another is connected to. Not so without `lasting`: then the session ends with `LinkCut`.
    """

    def __init__(self, info: RunInfo, dial: Dial, *, lasting: bool = True) -> None:
        self._info = info
        self._dial = dial
        self._lasting = lasting
        self._link: Link | None = None
        self._welcome: protocol.Welcome | None = None
        self._capacity: Capacity | None = None
        self._updates: list[Update] = []
        self._changed = False
        self._news = asyncio.Event()
        self._trouble: Exception | None = None
        self._closed = False
        self._live: set[str] = set()
        self._cancelled: set[str] = set()
        self._stopped: set[str] = set()
        self._answers: dict[int, asyncio.Future[protocol.Answer]] = {}
        self._asked = 0
        self._again: asyncio.Task[None] | None = None

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand over attempts. What an agent that dies did not get is reported as `Unknown` by the next."""
        self._live.update(attempt.key for attempt in attempts)
        when = self._info.clean_scratch
        if when != "always":
            attempts = [msgspec.structs.replace(attempt, clean_scratch=when) for attempt in attempts]
        self._send(protocol.Submit(list(attempts)))

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended."""
        self._cancelled.update(keys)
        self._send(protocol.Cancel(list(keys)))

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        self._stopped.update(keys)
        self._send(protocol.StopServices(list(keys)))

    async def withdraw(self, keys: Sequence[str], ask: int) -> None:
        """Have attempts forgotten that wait for their turn: each is said to be `Unknown`, with `ask`, then."""
        self._send(protocol.Withdraw(list(keys), ask))

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """Change what the run may use at once; the next agent hears of it in the hello."""
        self._info = msgspec.structs.replace(self._info, cores=cores, memory=memory, disk=disk)
        if self._link is not None:
            self._link.still = -1  # whether the run still stands still has to be found anew
        self._send(protocol.Limit(cores, memory, disk))

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Have outcomes forgotten."""
        self._live.difference_update(keys)
        self._cancelled.difference_update(keys)
        self._stopped.difference_update(keys)
        self._send(protocol.Acknowledge(list(keys)))

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask about attempts; all others of this run are ended."""
        self._live.update(keys)
        self._send(protocol.Find(list(keys), ask))

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates. Raises `Fenced` and `AdapterError`."""
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
        """What this run may use at once on this host."""
        assert self._capacity is not None
        return self._capacity

    def stand_still(self, *, waits: bool) -> None:
        """Tell the agent, if that is new to it; and of which of its updates all this is true."""
        link = self._link
        still = link.heard - len(self._updates) if link is not None and waits else -1
        if link is not None and link.still != still:
            link.still = still
            link.send(protocol.StandStill(still))

    async def describe(self, key: str) -> str:
        """Why an attempt does not run yet."""
        return (await self._ask(key)).text

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What a running attempt has written so far."""
        answer = await self._ask(key)
        return answer.out, answer.err

    async def close(self) -> None:
        """Leave. Live attempts go on."""
        self._closed = True
        self._news.set()
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)
        if self._link is not None:
            self._link.send(protocol.Bye())
            await self._link.end()

    # The connection -------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Say hello to an agent. Raises `Fenced` and `AdapterError`."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                runtime, link = await self._dial(self._info, lambda: Link(self))
            except start.AgentDiedError:  # killed while it started, say
                if not left:
                    raise
                await asyncio.sleep(_PAUSE)
                continue
            try:
                first = await self._greet(link, runtime)
            except BaseException:  # cancelled, too: a connection that nobody has is dropped
                link.drop()
                raise
            if first is not None and link.alive:
                self._link = link
                self._welcomed(first)
                return
        raise AdapterError(f"agents of {self._info.store} end as soon as they are started")

    async def _greet(self, link: Link, runtime: str) -> protocol.Welcome | None:
        """Say hello; None if the agent hangs up instead of answering. Raises `Fenced` and `AdapterError`."""
        link.send(protocol.Hello.of(self._info, runtime))
        try:
            async with asyncio.timeout(_PATIENCE):
                first = await link.first
        except TimeoutError:
            raise AdapterError(f"the agent in {runtime} does not answer") from None
        if isinstance(first, protocol.Refused):
            raise _refusal(first)
        return first

    def _send(self, message: protocol.FromLeader) -> None:
        if self._link is not None:
            self._link.send(message)

    async def _ask(self, key: str) -> protocol.Answer:
        link = self._link
        if link is None:
            return protocol.Answer(0)
        self._asked += 1
        number = self._asked
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        link.send(protocol.Ask(number, key))
        try:
            async with asyncio.timeout(_PATIENCE):
                answer: protocol.Answer = await future
            return answer
        except TimeoutError:
            return protocol.Answer(number)
        finally:
            del self._answers[number]

    # Heard from the link --------------------------------------------------------------------------------------

    def heard(self, message: protocol.FromAgent) -> None:
        """A message of the agent, after its welcome."""
        match message:
            case protocol.Updates(items):
                self._updates += items
                self._news.set()
            case protocol.Answer(number):
                future = self._answers.get(number)
                if future is not None and not future.done():
                    future.set_result(message)
            case protocol.Refused():
                self._fail(_refusal(message))
            case protocol.Welcome():
                self._welcomed(message, self.capacity().give_way)
                self._change()
            case protocol.GiveWay(why):
                self._give_way(why)
                self._change()

    def _welcomed(self, welcome: protocol.Welcome, give_way: str = "") -> None:
        self._welcome = welcome
        self._capacity = _capacity(welcome, give_way)

    def _give_way(self, why: str) -> None:
        self._capacity = msgspec.structs.replace(self.capacity(), give_way=why)

    def _change(self) -> None:
        self._changed = True
        self._news.set()

    def lost(self, link: Link) -> None:
        """The connection is gone: the agent has died, most likely."""
        for number, future in self._answers.items():
            if not future.done():
                future.set_result(protocol.Answer(number))
        if self._link is link:
            self._link = None
            self._give_way("")
            if not self._lasting:
                self._fail(LinkCut("the connection is cut"))
            elif not self._closed and self._trouble is None:
                self._again = asyncio.get_running_loop().create_task(self._connect_again())

    async def _connect_again(self) -> None:
        """Find another agent, and ask it about everything that is live; it has the dead one's journal."""
        try:
            await self.connect()
        except Exception as error:  # noqa: BLE001 - whatever it is ends the session, with this as its reason
            self._fail(error)
            return
        self._send(protocol.Find(sorted(self._live)))
        if self._cancelled:
            self._send(protocol.Cancel(sorted(self._cancelled)))
        if self._stopped:
            self._send(protocol.StopServices(sorted(self._stopped)))

    def _fail(self, error: Exception) -> None:
        self._trouble = self._trouble or error
        self._news.set()


class Link(asyncio.Protocol):
    """The stream to an agent. `first` is the agent's answer to the hello; None if it hung up instead.

    `heard`: how many updates have come; `still`: of how many the agent was told that the run stands still after them
    """

    def __init__(self, session: LocalSession) -> None:
        self._session = session
        self._frames = protocol.Frames()
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()
        self.first: asyncio.Future[protocol.Welcome | protocol.Refused | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.heard = 0
        self.still = -1

    @property
    def alive(self) -> bool:
        """Is it there still?"""
        return not self._gone.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Told by the loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Told by the loop."""
        if self.first.cancelled():  # who was to have this connection does not wait for it any more
            return
        for each in self._frames.feed(data):
            message = protocol.from_agent(each)
            if not self.first.done():
                assert isinstance(message, protocol.Welcome | protocol.Refused)
                self.first.set_result(message)
            else:
                self.heard += len(message.items) if isinstance(message, protocol.Updates) else 0
                self._session.heard(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Told by the loop."""
        if not self.first.done():
            self.first.set_result(None)
        self._gone.set()
        self._session.lost(self)

    def send(self, message: protocol.FromLeader) -> None:
        """Send; nothing if the connection is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(protocol.frame(message))

    def drop(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> None:
        """Hang up once everything has been sent."""
        if self._transport is not None:
            self._transport.close()
            await self._gone.wait()


def _capacity(found: protocol.Welcome, give_way: str) -> Capacity:
    return Capacity(
        cores=found.cores,
        memory=found.memory,
        disk=found.disk,
        ahead=AHEAD,
        accelerators=found.accelerators,
        chains=True,
        beyond=found.beyond,
        trouble=found.beyond.trouble if found.beyond else "",
        give_way=give_way,
    )


def _refusal(message: protocol.Refused) -> Exception:
    return Fenced(message.message) if message.fenced else AdapterError(f"the agent refused: {message.message}")


Dial: TypeAlias = Callable[[RunInfo, Callable[[], Link]], Awaitable[tuple[str, Link]]]
"""Reaches the agent of a run's store, which is started if there is none: its runtime directory, and a link made by the
function. Raises `AdapterError`; `orch.agent.start.AgentDiedError` where another attempt may do better."""


async def dial(info: RunInfo, make_link: Callable[[], Link]) -> tuple[str, Link]:
    """This host's agent, by its socket."""
    loop = asyncio.get_running_loop()
    reaching = loop.run_in_executor(None, _reach, info)
    try:
        runtime, connection = await asyncio.shield(reaching)
    except asyncio.CancelledError:
        reaching.add_done_callback(_hang_up)  # a thread cannot be cancelled, and what it brings nobody has
        raise
    try:
        _, link = await loop.create_unix_connection(make_link, sock=connection)
    except BaseException:  # cancelled, too: nobody else has the connection
        connection.close()
        raise
    return runtime, link


def _hang_up(reached: asyncio.Future[tuple[str, socket.socket]]) -> None:
    if reached.exception() is None:
        reached.result()[1].close()


def _reach(info: RunInfo) -> tuple[str, socket.socket]:
    runtime = paths.runtime_directory(info.store, info.work_dir, os.environ)
    connection = start.reach(info.store, runtime)
    connection.settimeout(0)
    return runtime, connection
