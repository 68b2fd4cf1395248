"""The leader's own process: `orch run --in-process`, so that breakpoints and debuggers work.

Attempts run one at a time, between two steps of the event loop; services run in threads. So nothing outlives the
leader, and no attempt is ever adopted. Sizes and times are not enforced. A signal that is to end the process ends the
attempt that runs, and no other begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from orch.adapters.contract import IN_PROCESS, Capacity, Finished, Queued, RunInfo, Started, Unknown, Update
from orch.agent.paths import agent_directory, host_name, runtime_directory
from orch.agent.totals import host_totals
from orch.attempt import Attempt, Note, Outcome, Place, Reason
from orch.bus.identity import utc_now
from orch.work.spares import KEPT

if TYPE_CHECKING:
    from orch.work.foreground import Foreground

PATIENCE = 1.0
"""Seconds in which a leader acknowledges an outcome; the next attempt waits for that, so that the log has it."""

GRACE = 10.0
"""Seconds that services have to stop when the leader leaves."""

_BREATH = 0.005
"""Seconds in which a leader may write down that an attempt runs, for whoever looks: nothing rests on it."""


class InProcessAdapter:
    """Runs attempts in this process."""

    name = IN_PROCESS

    async def open(self, info: RunInfo) -> InProcessSession:
        """Connect a run, once what an earlier leader's attempts have deferred is done. Raises `AdapterError`."""
        session = InProcessSession(info)
        await asyncio.to_thread(session.catch_up)
        return session

    async def close(self) -> None:
        """Nothing is shared by runs."""


class InProcessSession:
    """One run's attempts."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        base = info.work_dir or os.environ.get("ORCH_WORK_DIR") or None
        if base:
            os.makedirs(base, mode=0o700, exist_ok=True)
        self._directory = tempfile.mkdtemp(prefix="orch-inprocess-", dir=base)
        self._deferred = os.path.join(agent_directory(info.store), IN_PROCESS, info.run)
        self._foreground: Foreground | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Attempt] = deque()
        self._services: dict[str, _Service] = {}
        self._ended: dict[str, Outcome] = {}
        self._interrupted: set[str] = set()
        self._updates: list[Update] = []
        self._news = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._closed = False
        self._totals = host_totals(self._directory)

    def catch_up(self) -> None:
        """Do what attempts have deferred whose process was killed. Nothing of them runs: one leader has the run."""
        if not os.path.isdir(self._deferred):
            return
        from orch.work.deferred import pending
        from orch.work.foreground import make_deferred

        for path in pending(self._deferred):
            make_deferred(path, self._info.store, self._info.environment, sys.stderr.fileno())

    # The contract -------------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Have them run, in this order; services begin at once."""
        when = self._info.clean_scratch
        for attempt in [msgspec.structs.replace(each, clean_scratch=when) for each in attempts]:
            if self._knows(attempt.key):
                continue
            if attempt.form == "service" and not attempt.survey:
                self._start_service(attempt)
            else:
                self._waiting.append(attempt)
                self._tell(Queued(attempt.key))
        self._news.set()

    async def cancel(self, keys: Sequence[str]) -> None:
        """End what has not begun, and services; nothing else can be running now."""
        for key in keys:
            if key in self._services:
                self._services[key].stop(killed=True)
            elif key in self._ended:
                self._tell(Finished(key, self._ended[key]))
            elif self._drop(key):
                self._finish(Outcome(key=key, reason=Reason.KILLED, message="cancelled", ended=utc_now()))
            else:
                self._tell(Unknown(key))

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Tell them."""
        for key in keys:
            if key in self._services:
                self._services[key].stop()

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What a single attempt may ask for, since only one runs."""
        self._info = msgspec.structs.replace(self._info, cores=cores, memory=memory, disk=disk)

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """Forget their outcomes."""
        for key in keys:
            self._ended.pop(key, None)
        self._acknowledged.set()

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Where they stand. What no leader names any more is ended."""
        for key in [*(each.key for each in self._waiting), *self._services]:
            if key not in keys:
                await self.cancel([key])
        for key in keys:
            self._tell(*self._standing(key, ask))

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates; attempts run in between."""
        while not self._closed:
            await self._news.wait()
            self._news.clear()
            while not self._closed:
                if self._updates:
                    batch, self._updates = self._updates, []
                    yield batch
                elif (attempt := await self._next()) is not None:
                    yield [Started(attempt.key, host=host_name(), pid=os.getpid(), since=utc_now())]
                    await asyncio.sleep(_BREATH)
                    if self._drop(attempt.key):  # else it was cancelled meanwhile
                        self._perform(attempt)
                else:
                    break

    def capacity(self) -> Capacity:
        """As on this host, so that what can never run is found here, too."""
        from orch.agent.devices import counted

        totals, info = self._totals, self._info
        devices = counted(totals.devices)
        return Capacity(
            cores=min(totals.cores, info.cores or totals.cores),
            memory=min(totals.memory, info.memory or totals.memory),
            disk=min(totals.disk, info.disk or totals.disk),
            accelerators=devices,
            beyond=Capacity(totals.cores, totals.memory, totals.disk, accelerators=devices, trouble=totals.trouble),
            trouble=totals.trouble,
        )

    def stand_still(self, *, waits: bool) -> None:
        """No other run has anything to do with it."""

    async def describe(self, key: str) -> str:
        """One attempt runs at a time."""
        for position, attempt in enumerate(self._waiting, 1):
            if attempt.key == key:
                return f"jobs run one after the other in the leader's process (--in-process); it is number {position}"
        return ""

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """It is on the leader's terminal."""
        return b"", b""

    async def close(self) -> None:
        """Leave. Services are stopped; nothing else is running."""
        self._closed = True
        self._news.set()
        threads = [service.thread for service in self._services.values()]
        for service in self._services.values():
            service.stop()
        for thread in threads:
            await asyncio.to_thread(thread.join, GRACE)
        if self._foreground is not None:
            self._foreground.close()
        from orch.work.foreground import forget  # the planner may have loaded the workflow, if nothing else did

        forget(self._info.run)
        shutil.rmtree(self._directory, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is none, or something is left to be done
            os.rmdir(self._deferred)
            os.rmdir(os.path.dirname(self._deferred))

    # One attempt after the other ------------------------------------------------------------------------------------

    async def _durable(self) -> None:
        """Wait until the leader has written down how the attempt before ended."""
        if not self._ended:
            return
        self._acknowledged.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._acknowledged.wait()
        except TimeoutError:  # one that does not acknowledge, or is busy: nothing is wrong with that
            return

    async def _next(self) -> Attempt | None:
        """The one that waits longest, once the one before is over for the leader, too; it goes on waiting."""
        if self._waiting and not self._interrupted:
            await self._durable()
        return self._waiting[0] if self._waiting and not self._interrupted else None

    def _perform(self, attempt: Attempt) -> None:
        from orch.work.foreground import Interrupted

        try:
            self._finish(self._ground().run(attempt, self._updates.append))
        except Interrupted:
            self._interrupted.add(attempt.key)
        except OSError as error:
            message = f"it cannot be run in {self._directory}: {error}"
            self._finish(Outcome(key=attempt.key, reason=Reason.ERROR, message=message, ended=utc_now()))

    def _ground(self) -> Foreground:
        if self._foreground is None:
            from orch.work.foreground import Foreground

            scratch = os.path.join(self._directory, "scratch")
            os.mkdir(scratch, 0o700)
            place = Place(store=self._info.store, scratch=scratch, host=host_name(), deferred=self._deferred)
            sys.path.extend(path for path in self._info.python_path if path not in sys.path)
            kept = ""
            if self._info.clean_scratch != "always":
                kept = os.path.join(runtime_directory(self._info.store, self._info.work_dir, os.environ), KEPT)
            self._foreground = Foreground(place, self._info.environment, self._directory, kept)
        return self._foreground

    # Services, beside them ------------------------------------------------------------------------------------------

    def _start_service(self, attempt: Attempt) -> None:
        failed = self._ground().refused(attempt)
        if failed is not None:
            self._finish(failed)
            return
        self._tell(Queued(attempt.key), Started(attempt.key, host=host_name(), pid=os.getpid(), since=utc_now()))
        self._services[attempt.key] = _Service(attempt, self._ground(), self._from_thread)

    def _from_thread(self, update: Update) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._heard, update)

    def _heard(self, update: Update) -> None:
        if isinstance(update, Finished):
            self._services.pop(update.key, None)
            self._finish(update.outcome)
        else:
            self._tell(update)

    # What is known --------------------------------------------------------------------------------------------------

    def _knows(self, key: str) -> bool:
        return key in self._services or key in self._ended or any(each.key == key for each in self._waiting)

    def _drop(self, key: str) -> bool:
        """Take it from those that wait, or were interrupted; False if it is not among them."""
        for attempt in self._waiting:
            if attempt.key == key:
                self._waiting.remove(attempt)
                return True
        if key in self._interrupted:
            self._interrupted.remove(key)
            return True
        return False

    def _standing(self, key: str, ask: int) -> list[Update]:
        if key in self._ended:
            return [Finished(key, self._ended[key])]
        if key in self._services:
            up = self._services[key].up
            return [Started(key, host=host_name(), pid=os.getpid()), *([up] if up else [])]
        return [Queued(key) if self._knows(key) else Unknown(key, ask)]

    def _finish(self, outcome: Outcome) -> None:
        self._ended[outcome.key] = outcome
        self._tell(Finished(outcome.key, outcome))

    def _tell(self, *updates: Update) -> None:
        self._updates += updates
        self._news.set()


class _Service:
    """A service in a thread of its own; `tell` is called there."""

    def __init__(self, attempt: Attempt, foreground: Foreground, tell: Callable[[Update], None]) -> None:
        self.up: Note | None = None
        self._tell = tell
        self._killed = False
        self._ours, self._its = socket.socketpair()
        self.thread = threading.Thread(
            target=self._run, args=(attempt, foreground), name=f"orch service {attempt.key}", daemon=True
        )
        self.thread.start()

    def stop(self, *, killed: bool = False) -> None:
        """Tell it to stop, which takes its time. `killed`: that is a cancellation."""
        self._killed = self._killed or killed
        self._ours.close()

    def _run(self, attempt: Attempt, foreground: Foreground) -> None:
        outcome = foreground.serve(attempt, self._emit, self._its.fileno())
        if self._killed:
            outcome = msgspec.structs.replace(outcome, reason=Reason.KILLED, message="cancelled")
        self._ours.close()
        self._its.close()
        self._tell(Finished(attempt.key, outcome))

    def _emit(self, note: Note) -> None:
        if note.kind == "up":
            self.up = note
        self._tell(note)
