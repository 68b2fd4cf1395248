"""A process of the simulated world: a loop, and functions that block in strands of their own.

It can be killed between any two steps, and be stopped and continued, and what it was about to do is then not done.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import threading
import types
from asyncio import tasks
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import anyio

from orch.bus.files import Files
from orch.bus.identity import Identity
from orch.bus.machine import Machine
from simulator.disk import Disk
from simulator.loop import Turns
from simulator.world import World

Result = TypeVar("Result")

_UNWINDINGS = 200


class Killed(BaseException):
    """The process is dead; whatever it still tries fails with this."""


class Process:
    """`name` is for people. `steps` counts what it has done; before step number `doom` it is killed."""

    def __init__(self, world: World, name: str, *, disk: Disk, pid: int, host: str = "here") -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = False
        self.steps = 0
        self.doom = 0
        self.offset = 0.0
        self.main: asyncio.Task[Any] | None = None
        self._scope: anyio.CancelScope | None = None
        self.on_end: Callable[[], None] = lambda: None
        self.loop = Turns(world)  # type: ignore[abstract]  # what is missing is not asked for
        self._strands: list[Strand] = []
        self.machine = Machine(
            files=Mounted(self, disk),
            clock=lambda: world.clock(self.offset),
            whoami=lambda: Identity(host=host, pid=pid, boot="boot", user="somebody"),
            offload=self.offload,
            sleep=self._sleep,
        )
        world.actors.append(self)

    def run(self, main: Coroutine[Any, Any, Any]) -> None:
        """Begin. `on_end` is called when `main` has ended, or the process is killed."""
        self.main = self.loop.create_task(self._scoped(main))
        self.main.add_done_callback(lambda _: self._end())

    async def _scoped(self, main: Coroutine[Any, Any, Any]) -> None:
        with anyio.CancelScope() as self._scope:
            await main

    def _end(self) -> None:
        if self.alive:
            self.alive = False
            self.world.actors.remove(self)
            self.on_end()

    # Steps.

    @property
    def ready(self) -> bool:
        return not self.stopped and (bool(self.loop.ready) or any(strand.ready for strand in self._strands))

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.doom:
            self.kill()
            return
        strands = [strand for strand in self._strands if strand.ready]
        if strands and (not self.loop.ready or self.world.likely(0.5)):
            self._advance(strands[0])
        else:
            self.loop.step()

    def _advance(self, strand: Strand) -> None:
        strand.advance()
        if strand.over:
            self._strands.remove(strand)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # virtual: the loop is `Turns`

    async def offload(self, function: Callable[..., Result], *args: Any) -> Result:
        """In a strand, as in a thread: what the function does is interleaved with what everybody else does."""
        future: asyncio.Future[Result] = self.loop.create_future()
        self._strands.append(Strand(self, lambda: function(*args), future))
        with anyio.CancelScope(shield=True):
            await future
        return future.result()

    # Signals.

    def interrupt(self) -> None:
        """SIGTERM: `main` is cancelled where it waits, and leaves in order."""
        if self._scope is not None:
            self.world.say(self.name, "is told to go")
            self.loop.call_soon(self._scope.cancel)

    def kill(self) -> None:
        """SIGKILL: not one more step."""
        if not self.alive:
            return
        self.alive = False
        self.world.actors.remove(self)
        self.world.say(self.name, "is killed")
        for strand in self._strands:
            strand.unwind()
        for task in self.loop.tasks:
            self._unwind(task)
        self.loop.ready.clear()
        self.on_end()

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True
        self.world.say(self.name, "is stopped")

    def go_on(self) -> None:
        """SIGCONT."""
        if self.alive and self.stopped:
            self.stopped = False
            self.world.say(self.name, "goes on")

    def pause(self, seconds: float) -> None:
        """In a strand: let others go on. Raises `Killed`."""
        strand: Strand | None = getattr(Strand.current, "strand", None)
        if strand is not None:
            strand.pause(seconds)

    def crash(self) -> None:
        """For ports: it dies here, in the middle of what it does."""
        self.doom = self.steps + 1
        raise Killed

    def check(self) -> None:
        """Raise `Killed` if the process is dead: every port asks this first."""
        if not self.alive:
            raise Killed

    def _unwind(self, task: asyncio.Task[Any]) -> None:
        """Take a dead task's coroutine apart, so that nothing is left of it. Its ports are dead: it can do no harm."""
        if task.done():
            return
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        assert isinstance(coroutine, types.CoroutineType)

        def throw() -> None:
            tasks._enter_task(self.loop, task)
            try:
                if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                    coroutine.send(None)  # else Python complains about what it was to run
                for _ in range(_UNWINDINGS):
                    coroutine.throw(Killed())
            except (StopIteration, Killed):
                pass
            except BaseException:  # noqa: BLE001 - it is dead: its last words do not matter
                pass
            finally:
                tasks._leave_task(self.loop, task)

        self.loop.inside(throw)


class Strand:
    """A function that blocks, in a real thread that moves only when it is told to, and then alone."""

    current = threading.local()

    def __init__(self, process: Process, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.over = False
        self.ready = True
        self._process = process
        self._function = function
        self._future = future
        self._go = threading.Lock()
        self._back = threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread: threading.Thread | None = None

    def advance(self) -> None:
        """Let it run up to its next pause, or its end."""
        self.ready = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()
        if self.over:
            self._thread.join()

    def unwind(self) -> None:
        """Its process is dead."""
        if self._thread is not None and not self.over:
            self.advance()

    def pause(self, seconds: float) -> None:
        """In the strand: let others go on for so long. Raises `Killed` if the process has died meanwhile."""
        if self._process.alive:
            self._process.world.later(seconds, self._wake)
            self._back.release()
            self._go.acquire()
        self._process.check()

    def _wake(self) -> None:
        self.ready = True

    def _run(self) -> None:
        Strand.current.strand = self
        result, error = None, None
        try:
            result = self._function()
        except Killed:
            pass
        except BaseException as caught:  # noqa: BLE001 - carried over to whoever waits
            error = caught
        self.over = True
        if self._process.alive:
            if error is not None:
                self._future.set_exception(error)
            else:
                self._future.set_result(result)
        self._back.release()


class Mounted(Files):
    """The disk as one process sees it: each call takes time, may fail, and may be the last thing that it does."""

    def __init__(self, process: Process, disk: Disk) -> None:
        self._process = process
        self._disk = disk

    def _before(self, what: str, path: Path) -> None:
        self._process.check()
        self._process.pause(self._disk.latency(what))
        self._disk.fail(what, path)

    def make_dir(self, path: Path) -> None:
        self._before("make_dir", path)

    def list(self, directory: Path) -> list[str]:
        self._before("list", directory)
        return self._disk.list(directory)

    def create(self, path: Path) -> int:
        self._before("create", path)
        return self._disk.create(path)

    def open(self, path: Path) -> int:
        self._before("open", path)
        return self._disk.open(path)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        self._before("read", self._disk.path_of(handle))
        return self._disk.read(handle, offset, size)

    def size(self, handle: int) -> int:
        self._process.check()
        return self._disk.size(handle)

    def write(self, handle: int, data: bytes) -> None:
        """In two halves, so that there is a moment in the middle of it."""
        path = self._disk.path_of(handle)
        self._before("write", path)
        half = self._process.world.chance.randint(0, len(data))
        for part in (data[:half], data[half:]):
            if self._disk.write(handle, part) < len(part):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            self._process.pause(0.0)

    def open_again(self, path: Path) -> int:
        return self.open(path)

    def write_over(self, handle: int, offset: int, data: bytes) -> None:
        self._before("write", self._disk.path_of(handle))
        self._disk.write_over(handle, offset, data)

    def sync(self, handle: int) -> None:
        path = self._disk.path_of(handle)
        try:
            self._before("sync", path)
        except OSError:
            self._disk.fail_sync(handle)
            raise
        self._disk.sync(handle)
        self._process.pause(0.0)

    def sync_dir(self, path: Path) -> None:
        self._before("sync_dir", path)
        self._disk.sync_dir(path)

    def exists(self, path: Path) -> bool:
        self._before("exists", path)
        return path in self._disk.names

    def close(self, handle: int) -> None:
        self._process.check()
        self._disk.close(handle)
