"""An asyncio loop that is stepped from outside, one callback at a time, in virtual time."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from simulator.world import World


class Turns(asyncio.AbstractEventLoop):
    """What tasks, futures and timers need; there are no sockets, threads or signals. `ready`: what can run now."""

    def __init__(self, world: World) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.troubles: list[BaseException] = []
        self._world = world

    def step(self) -> None:
        """Run the next callback."""
        handle = self.ready.popleft()
        if not handle.cancelled():
            self.inside(handle._run)

    def inside(self, action: Callable[[], Any]) -> Any:
        """Do something as the running loop."""
        events._set_running_loop(self)
        try:
            return action()
        finally:
            events._set_running_loop(None)

    def time(self) -> float:
        return self._world.now

    def call_soon(  # type: ignore[override]  # variadic generics would say no more here
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def due() -> None:
            if not handle.cancelled():
                self.ready.append(handle)

        self._world.later(when - self.time(), due)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.troubles.append(error if isinstance(error, BaseException) else RuntimeError(context.get("message")))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count."""
