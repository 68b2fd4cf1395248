"""The agent's loop: one thread, descriptors, timers, and the ends of children."""

from __future__ import annotations

import dataclasses
import heapq
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from orch.bus.events import Usage

IN = select.EPOLLIN
OUT = select.EPOLLOUT

ChildEnded = Callable[[int, int, Usage], None]
"""Is told of each child that has ended: pid, status (wait(2)), what it and those that it has waited for have used."""


@dataclasses.dataclass(order=True, slots=True)
class Timer:
    """Something to be done at a time (monotonic seconds). `cancel` makes it nothing."""

    when: float
    number: int
    action: Callable[[], None] | None = dataclasses.field(compare=False)

    def cancel(self) -> None:
        """Do not do it."""
        self.action = None


class Loop:
    """Calls back, until told to stop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._numbers = 0
        self._stopped = False
        self._child_ended = True
        self._wake_in, wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.add(self._wake_in, self._woken)
        signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._on_child)

    def add(self, descriptor: int, callback: Callable[[int], None]) -> None:
        """Call `callback` with what is possible (IN, OUT …) when something can be read."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, IN)

    def want(self, descriptor: int, mask: int) -> None:
        """Change what is waited for."""
        self._epoll.modify(descriptor, mask)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor; to be called before it is closed."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Do something at a time."""
        self._numbers += 1
        timer = Timer(when, self._numbers, action)
        heapq.heappush(self._timers, timer)
        return timer

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do something later."""
        return self.at(time.monotonic() + seconds, action)

    @property
    def child_pending(self) -> bool:
        """Has a child ended of which `ended` has not been told yet?"""
        return self._child_ended

    def stop(self) -> None:
        """Return from `run` at the end of this turn."""
        self._stopped = True

    def run(self, turn: Callable[[], None], ended: ChildEnded) -> None:
        """Go on until stopped. `turn` is called at the end of each turn, once everything has been heard."""
        while not self._stopped:
            self._step(ended)
            turn()

    def _step(self, ended: ChildEnded) -> None:
        for descriptor, mask in self._epoll.poll(self._patience()):
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback(mask)
        if self._child_ended:
            self._child_ended = False
            _reap(ended)
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            action = heapq.heappop(self._timers).action
            if action is not None:
                action()

    def _patience(self) -> float:
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        if self._child_ended:
            return 0
        return max(0.0, self._timers[0].when - time.monotonic()) if self._timers else -1

    def _woken(self, _mask: int) -> None:
        os.read(self._wake_in, 4096)

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        self._child_ended = True


def _reap(ended: ChildEnded) -> None:
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended(pid, status, Usage(user=used.ru_utime, system=used.ru_stime, memory=used.ru_maxrss * 1024))
