"""Threads for what blocks: few, shared by all runs of a loop, and cheap to hand something to.

What blocks here is the disk. The syncs of many runs must not wait for each other: the kernel makes those durable
together that wait at the same time. But a thousand runs must not have a thousand threads either. So there are up to
`MOST`, made as they are needed, and gone when they have had nothing to do for a while. The loop is woken once for all
that has been done since it looked last.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")

MOST = 32
"""Threads of a loop: with 300 logs on an ext4 disk, more did not make more syncs a second."""

_IDLE = 10.0
"""Seconds without work after which a thread ends."""

_Work = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Hands:
    """The threads of one loop."""

    def __init__(self, most: int = MOST, idle: float = _IDLE) -> None:
        self._most = most
        self._idle = idle
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._guard = threading.Lock()
        self._threads = 0
        self._unfinished = 0
        self._woken = False

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run it in a thread. Whoever waits is not cancelled before it has ended."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._guard:
            self._unfinished += 1
            more = self._unfinished > self._threads < self._most
            self._threads += more
        self._work.put((future, function, args))
        if more:
            threading.Thread(target=self._serve, name="orch-hand", daemon=True).start()
        with anyio.CancelScope(shield=True):
            await future
        return future.result()

    def _serve(self) -> None:
        while True:
            try:
                future, function, args = self._work.get(timeout=self._idle)
            except queue.Empty:
                if self._may_leave():
                    return
                continue
            self._hand_back(future, *_outcome(function, args))
            del future, function, args  # nothing is kept alive while there is nothing to do

    def _may_leave(self) -> bool:
        with self._guard:
            leaves = self._unfinished < self._threads
            self._threads -= leaves
            return leaves

    def _hand_back(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        with self._guard:
            self._unfinished -= 1
            self._done.append((future, result, error))
            woken, self._woken = self._woken, True
        if not woken:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._guard:
            self._woken = False
        while self._done:
            future, result, error = self._done.popleft()
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    try:
        return function(*args), None
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        return None, error


_OF_LOOP: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hands] = weakref.WeakKeyDictionary()


def hands() -> Hands:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    found = _OF_LOOP.get(loop)
    if found is None:
        found = _OF_LOOP[loop] = Hands()
    return found
