"""The planners of an Orchestrator: processes that have imported a workflow and stay, for it may be wanted again.

To start Python and import a workflow takes a hundred times as long as to plan a small one. So the process that plans
a bundle for the first time does so in a fork of itself, and is asked for another with each further start of the same
code, in the same environment and directory. A few stay, for some seconds after they were needed last. The other side,
and what the two say to each other, is in `orch.work.planner_forks`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping

import anyio
import anyio.abc
import msgspec

from orch.agent import packets
from orch.environment import packed
from orch.planner_process import Process, read, write
from orch.planning import GRACE, Planner, PlannerHere, open_planner
from orch.work.framing import Load

COMMAND = (sys.executable, "-P", "-m", "orch.work.planner_forks")

AT_ONCE = 8
"""Plans that are made at the same time. More of them would not be ready any sooner."""

KEPT = 4
"""Planners that stay, unless more are busy."""

IDLE = 10.0
"""Seconds after which one that is not needed goes, at the soonest."""

_MOST_ALONE = 100

Key = tuple[str, str, frozenset[tuple[str, str]]]
"""What a planner has imported: the bundle, in which directory and environment."""


class Planners:
    """Opens planners as `orch.planning.open_planner` does. `tasks` looks after them, and ends them when it ends."""

    def __init__(self, tasks: anyio.abc.TaskGroup, idle: float = IDLE) -> None:
        self._tasks = tasks
        self._idle = idle
        self._limit = anyio.Semaphore(AT_ONCE, fast_acquire=True)
        self._warm: dict[Key, Warm] = {}
        self._alone: set[Key] = set()  # those of which no fork is as good as a new process

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._limit.statistics().tasks_waiting

    @contextlib.asynccontextmanager
    async def open(
        self, bundle: str | os.PathLike[str], environment: Mapping[str, str], cwd: str, *, here: bool = False
    ) -> AsyncIterator[Planner | PlannerHere]:
        """A planner for one plan, or with `here` this process. It is as if nobody had used it before."""
        key = (os.fspath(bundle), cwd, frozenset(environment.items()))
        async with self._limit:
            if here or key in self._alone:
                async with open_planner(bundle, environment, cwd, here=here) as planner:
                    yield planner
                return
            warm, fork = await self._fork(key, environment)
            try:
                async with Planner.talk(fork) as planner:
                    yield planner
            finally:
                warm.release()

    async def _fork(self, key: Key, environment: Mapping[str, str]) -> tuple[Warm, Fork]:
        while True:
            warm = self._warm.get(key)
            if warm is None:
                return self._hire(key, environment)
            warm.users += 1
            try:
                await warm.settled.wait()
                fork = await warm.fork()
            except BaseException:  # cancelled, too
                warm.release()
                raise
            if fork is not None:
                return warm, fork
            self._drop(key, warm)
            warm.release()

    def _hire(self, key: Key, environment: Mapping[str, str]) -> tuple[Warm, Fork]:
        idle = [other for other, warm in self._warm.items() if not warm.users]
        if len(self._warm) >= KEPT and idle:
            oldest = min(idle, key=lambda other: self._warm[other].last)
            self._drop(oldest, self._warm[oldest])
        bundle, cwd, _ = key
        warm, fork = hire(Load(bundle, packed(environment), cwd), environment)
        self._warm[key] = warm
        self._tasks.start_soon(self._look_after, key, warm, fork)
        return warm, fork

    async def _look_after(self, key: Key, warm: Warm, first: Fork) -> None:
        try:
            answer = await first.began()
            if answer == "alone" and len(self._alone) < _MOST_ALONE:
                self._alone.add(key)
            if answer != "forked":
                self._drop(key, warm)
            warm.settled.set()
            await warm.unused(self._idle)
        finally:
            self._drop(key, warm)
            warm.settled.set()
            with anyio.CancelScope(shield=True):
                await warm.end()

    def _drop(self, key: Key, warm: Warm) -> None:
        """Have nobody else use it."""
        if self._warm.get(key) is warm:
            del self._warm[key]
        warm.drop()


class Warm:
    """A planner that stays. `settled`: it has said what became of its first plan. `users`: plans that are made."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        self.settled = anyio.Event()
        self.users = 1
        self.last = 0.0
        self._process = process
        self._channel = channel
        self._dropped = False
        self._done = anyio.Event()

    async def fork(self) -> Fork | None:
        """Have it make another; None if it cannot."""
        if self._dropped:
            return None
        fork = Fork()
        fork.planner = self._process
        try:
            with contextlib.suppress(OSError):  # it is gone: it does not begin
                await fork.hand_over(self._channel)
            if await fork.began() == "forked":
                return fork
        except BaseException:  # cancelled, too: it is ended as soon as it begins
            fork.close_pipes()
            raise
        fork.close_pipes()
        return None

    def release(self) -> None:
        """A plan has been made."""
        self.users -= 1
        self.last = anyio.current_time()
        self._look()

    def drop(self) -> None:
        """It is not to be used any more."""
        self._dropped = True
        self._look()

    def _look(self) -> None:
        if self._dropped and not self.users:
            self._done.set()

    async def unused(self, idle: float) -> None:
        """Until it has been dropped, or has had nothing to do for `idle` seconds."""
        while not self._done.is_set():
            with anyio.move_on_after(idle):
                await self._done.wait()
            if not self.users and anyio.current_time() - self.last >= idle:
                return

    async def end(self) -> None:
        """Let it end its children, and then itself; or end it."""
        self._channel.close()
        with anyio.move_on_after(GRACE):
            await self._process.wait()
        self._process.kill()
        await self._process.wait()
        self._process.close_pipes()


class Fork:
    """One planning of a warm planner, for `Planner.talk`: this side's ends of what the two share.

    `theirs`: the other ends, until they have been handed over.
    """

    planner: Process

    def __init__(self) -> None:
        self._answer: str | None = None
        self._code: int | None = None
        self._reading = anyio.Lock(fast_acquire=True)
        self._talk, talk = socket.socketpair()
        self._word, word = packets.pair()
        self._err, err = os.pipe()
        self.theirs: tuple[int, ...] = (talk.detach(), err, word.detach())
        for end in (self._talk, self._word):
            end.setblocking(False)  # noqa: FBT003 - a fixed signature
        os.set_blocking(self._err, False)

    async def hand_over(self, channel: socket.socket) -> None:
        """Ask for it. Raises `OSError` if the planner is gone."""
        try:
            while True:
                try:
                    return packets.send(channel, b"", self.theirs)
                except BlockingIOError:
                    await anyio.wait_writable(channel)
        finally:
            self.close_theirs()

    def close_theirs(self) -> None:
        """Let go of the ends that were handed over."""
        for end in self.theirs:
            os.close(end)
        self.theirs = ()

    async def began(self) -> str:
        """What the planner said that it does; empty if it ended without a word."""
        async with self._reading:
            if self._answer is None:
                self._answer = await self._hear()
            return self._answer

    async def _hear(self) -> str:
        while True:
            try:
                return self._word.recv(100).decode()
            except BlockingIOError:
                await anyio.wait_readable(self._word)
            except OSError:
                return ""

    async def send(self, data: bytes) -> None:
        """As `PlannerProcess`."""
        await write(self._talk.fileno(), data)

    async def receive(self, count: int) -> bytes:
        """As `PlannerProcess`."""
        try:
            return await read(self._talk.fileno(), count)
        except ConnectionResetError:  # it ended before it read what it was sent
            return b""

    async def receive_errors(self) -> bytes:
        """As `PlannerProcess`."""
        return await read(self._err, 65536)

    async def wait(self) -> int:
        """Its exit code, negative for a signal."""
        if await self.began() != "forked":
            return await self.planner.wait()
        async with self._reading:
            if self._code is None:
                said = await self._hear()
                self._code = os.waitstatus_to_exitcode(int(said.split()[1])) if said else -signal.SIGKILL
            return self._code

    def close_stdin(self) -> None:
        """Ask it to leave."""
        self._talk.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it, and what it has started in its session's first process group."""
        if self._answer != "forked":
            self.planner.kill()
        elif self._code is None:
            self._word.shutdown(socket.SHUT_WR)

    def close_pipes(self) -> None:
        """Let go of everything. Again: does nothing."""
        self.close_theirs()
        self._talk.close()
        self._word.close()
        if self._err >= 0:
            os.close(self._err)
            self._err = -1


def hire(load: Load, environment: Mapping[str, str]) -> tuple[Warm, Fork]:
    """Start a planner that imports what `load` says; its first planning, which has the import's stderr, too."""
    channel, theirs = packets.pair()
    fork = Fork()
    try:
        with theirs:
            errors = fork.theirs[1]
            fork.planner = Process(COMMAND, environment, (theirs.fileno(), errors, errors))
        packets.send(channel, msgspec.msgpack.encode(load))
        packets.send(channel, b"", fork.theirs)
    except BaseException:  # nobody else will close them, whatever went wrong
        channel.close()
        fork.close_pipes()
        raise
    fork.close_theirs()
    channel.setblocking(False)  # noqa: FBT003 - a fixed signature
    return Warm(fork.planner, channel), fork
