"""Calls the commands of a batch system: few at once, never for ever, ever more seldom while it does not answer.

Trouble ends nothing. It is said once that there is some, and once that it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from orch.adapters.batch.dialect import Answer, Command, NotTaken, Refused, Trouble
from orch.adapters.batch.pace import Backoff
from orch.sizes import format_duration

T = TypeVar("T")
Say = Callable[[str], None]

AT_ONCE = 3
"""Commands of one kind: a batch system that answers slowly is not helped by more of them."""

MOST_OUT = 256 * 1024 * 1024
MOST_ERR = 1024 * 1024
"""Bytes of an answer; more is no answer."""

WORTH_SAYING = 2
"""Times in a row that it has not answered."""

_OVER = {"takes nothing now": "takes submissions again", "does not answer": "answers again"}

_REMEMBERED = 600.0
"""Seconds for which calls are remembered one by one."""


class Kind:
    """Commands with one purpose ("submit", "look" …): how they fare, together."""

    def __init__(self) -> None:
        self.lane = asyncio.Semaphore(AT_ONCE)
        self.backoff = Backoff(random.random)
        self.failures = 0
        self.since = 0.0
        self.not_before = 0.0
        self.what = ""
        self.trouble = ""


class Calls:
    """Of one batch system. `say` tells the user something; `timeout` is the most seconds that a command may take.

    `total` counts commands by kind.
    """

    def __init__(self, name: str, say: Say, timeout: float = 60.0) -> None:
        self._name = name
        self._say = say
        self._timeout = timeout
        self._kinds: dict[str, Kind] = {}
        self._outages: dict[str, float] = {}  # what the user was told, and since when that is so
        self._recent: deque[tuple[float, str]] = deque()
        self.total: Counter[str] = Counter()

    def recent(self, seconds: float = 60.0) -> Counter[str]:
        """Commands of the last so many seconds (ten minutes at most), by kind."""
        start = time.monotonic() - seconds
        return Counter(kind for at, kind in self._recent if at >= start)

    @property
    def trouble(self) -> str:
        """What is wrong with the batch system now, for people; empty: nothing."""
        return next((kind.trouble for kind in self._kinds.values() if kind.trouble), "")

    async def ask(self, kind: str, commands: Sequence[Command], parse: Callable[[list[Answer]], T]) -> T:
        """Call commands one after the other, and understand the answers. Raises what `parse` does, and `Trouble`.

        While there is trouble with this kind, nothing is called before its time has come.
        """
        state = self._kinds.setdefault(kind, Kind())
        async with state.lane:
            await self._pause(state)
            try:
                answers = [await self._call(kind, command) for command in commands]
                found = _understood(parse, answers)
            except Trouble as error:
                self._bad(state, commands, error)
                raise
        if commands:
            self._good(state)
        return found

    async def insist(self, kind: str, commands: Sequence[Command], parse: Callable[[list[Answer]], T]) -> T:
        """The same, until there is an answer."""
        while True:
            with contextlib.suppress(Trouble):
                return await self.ask(kind, commands, parse)

    @staticmethod
    async def _pause(state: Kind) -> None:
        while (wait := state.not_before - time.monotonic()) > 0:  # noqa: ASYNC110 - it may be put off meanwhile
            await asyncio.sleep(wait)

    def _bad(self, state: Kind, commands: Sequence[Command], error: Trouble) -> None:
        now = time.monotonic()
        if now < state.not_before:  # one that was under way at the same time
            return
        state.since = state.since if state.failures else now
        state.failures += 1
        wait = state.backoff.more()
        state.not_before = now + wait
        program = os.path.basename(commands[0].argv[0]) if commands else self._name
        state.what = "takes nothing now" if isinstance(error, NotTaken) else "does not answer"
        state.trouble = f"{self._name} {state.what}: {program}: {error}"
        if state.failures >= WORTH_SAYING and state.what not in self._outages:
            self._outages[state.what] = state.since
            self._say(f"{state.trouble}; orch goes on asking, next in {format_duration(round(wait, 1))}")

    def _good(self, state: Kind) -> None:
        if not state.failures:
            return
        state.failures, state.trouble, state.not_before = 0, "", 0.0
        state.backoff.reset()
        lasts = any(each.failures and each.what == state.what for each in self._kinds.values())
        if state.what in self._outages and not lasts:
            took = format_duration(round(time.monotonic() - self._outages.pop(state.what)))
            self._say(f"{self._name} {_OVER[state.what]}, after {took}")

    async def _call(self, kind: str, command: Command) -> Answer:
        now = time.monotonic()
        self.total[kind] += 1
        self._recent.append((now, kind))
        while self._recent[0][0] < now - _REMEMBERED:
            self._recent.popleft()
        try:
            return await call(command, min(command.timeout, self._timeout))
        except Refused as error:
            if kind == "submit":
                raise
            raise Trouble(str(error)) from error  # no run ends because a question cannot be asked


def _understood(parse: Callable[[list[Answer]], T], answers: list[Answer]) -> T:
    """What answers mean. A parser that stumbles is no reason to end a run: it is asked again."""
    try:
        return parse(answers)
    except (Refused, Trouble):
        raise
    except Exception as error:
        said = answers[0].said if answers else ""
        raise Trouble(f"its answer is not understood ({type(error).__name__}: {error}): {said}") from error


async def call(command: Command, timeout: float) -> Answer:
    """Run a command to its end. Raises `Trouble`; `NotTaken` where it could not even be started, `Refused` if ever."""
    try:
        process = await _start(command)
    except FileNotFoundError as error:
        raise NotTaken(f"there is no program {command.argv[0]!r} on this host") from error
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise Refused(f"{command.argv[0]} cannot be told so much: {error.strerror}") from error
        raise NotTaken(f"it cannot be started: {error.strerror or error}") from error
    except ValueError as error:  # a NUL, which no command can be told
        raise Refused(f"{command.argv[0]} cannot be told this: {error}") from error
    try:
        async with asyncio.timeout(timeout):
            out, err, _ = await asyncio.gather(
                _read(process.stdout, MOST_OUT), _read(process.stderr, MOST_ERR), _feed(process, command.stdin)
            )
            code = await process.wait()
    except TimeoutError:
        raise Trouble(f"no answer within {format_duration(timeout)}") from None
    finally:  # cancelled, too: nothing of it stays
        if process.returncode is None:
            await _end(process)
    return Answer(command, code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


async def _start(command: Command) -> asyncio.subprocess.Process:
    """Start it; or, cancelled, have it started and ended: asyncio may wait for ever for what is half started."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command.argv,
            env=_environment(command),
            stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for orch, not for a submission under way
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise


def _environment(command: Command) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **command.env}
    return {name: value for name, value in merged.items() if value is not None}


async def _read(stream: asyncio.StreamReader | None, most: int) -> bytes:
    assert stream is not None
    parts, size = [], 0
    while part := await stream.read(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise Trouble(f"it answers with more than {most} bytes")
    return b"".join(parts)


async def _feed(process: asyncio.subprocess.Process, text: str) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(ConnectionError):  # it has not read all of it: its answer says why
        process.stdin.write(os.fsencode(text))
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it and all that it has started, unless those have gone their own way."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - a grandchild may hold the pipes for ever
    with contextlib.suppress(ProcessLookupError):
        await asyncio.shield(process.wait())
