"""The body of a service: `start`, then `check` from time to time, and `stop` once it is told to.

Methods may be `async`: they share one event loop, which goes on while nothing else is to be done. That it is to stop, a
service hears from a descriptor (see `orch.agent.inside`) or by SIGTERM; nothing is polled.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from orch.authoring.pickling import dumps
from orch.errors import JobError
from orch.work.context import Context, context

if TYPE_CHECKING:
    import asyncio


def serve(service: Any, interval: float = 5.0) -> None:
    """Run a service until it is to stop, or `check` says False. Raises what `start`, `check` or `stop` raise.

    Once `start` has returned, `stop` is called however it ends. `interval`: seconds between two checks.
    """
    here = context()
    with _signalled() as wake, contextlib.closing(_Life(here, [here.stop_signal, wake])) as life:
        credentials = life.call(service.start)
        try:
            if not life.told_to_stop(0):
                _say_up(here, credentials)
                while not life.told_to_stop(interval) and _is_well(life.call(service.check)):
                    pass
        except BaseException:  # told as it is; what goes wrong in `stop` as well is only printed
            _stop_quietly(life, service)
            raise
        life.call(service.stop)


def _is_well(answer: Any) -> bool:
    """A check that says nothing has found nothing."""
    return answer is None or bool(answer)


def _say_up(here: Context, credentials: Any) -> None:
    try:
        data, jobs = dumps(credentials)
    except Exception as error:  # user code in __reduce__ may raise anything
        raise JobError(f"what start returned cannot be passed on: {type(error).__name__}: {error}") from error
    if jobs:
        raise JobError(f"start returned job {jobs[0].label}, and a service makes no jobs: return plain values")
    here.say_up(data)


def _stop_quietly(life: _Life, service: Any) -> None:
    from orch.work.traces import short_trace

    try:
        life.call(service.stop)
    except BaseException as error:  # noqa: BLE001 - there is a better reason for the end already
        print(f"stop failed as well:\n{short_trace(error)}", file=sys.stderr)  # noqa: T201 - it is the attempt's stderr


class _Life:
    """Calls the methods of one service, and waits in between."""

    def __init__(self, here: Context, descriptors: list[int]) -> None:
        self._descriptors = [each for each in descriptors if each >= 0]
        self._runner: asyncio.Runner | None = None

    def call(self, method: Any) -> Any:
        """What a method returns; one that is `async` is run to its end."""
        value = method()
        if type(value) is not types.CoroutineType:
            return value
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner.run(value)

    def told_to_stop(self, seconds: float) -> bool:
        """Wait that long for the word to stop."""
        if self._runner is None or self._poll(0):
            return self._poll(seconds)
        return self._runner.run(self._wait(seconds))

    def _poll(self, seconds: float) -> bool:
        poll = select.poll()
        for each in self._descriptors:
            poll.register(each, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    async def _wait(self, seconds: float) -> bool:
        """The same in the loop, so that what `start` has left running there goes on."""
        import asyncio

        told, loop = asyncio.Event(), asyncio.get_running_loop()
        for each in self._descriptors:
            loop.add_reader(each, told.set)
        try:
            async with asyncio.timeout(seconds):
                await told.wait()
        except TimeoutError:
            return False
        finally:
            for each in self._descriptors:
                loop.remove_reader(each)
        return True

    def close(self) -> None:
        """End the loop, and what still runs in it."""
        if self._runner is not None:
            self._runner.close()


@contextlib.contextmanager
def _signalled() -> Iterator[int]:
    """A descriptor that can be read after SIGTERM; -1 in a thread, where signals are not ours to handle."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield -1
        return
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def told(_number: int, _frame: types.FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):  # it was told often enough
            os.write(writing, b".")

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield reading
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(reading)
        os.close(writing)
