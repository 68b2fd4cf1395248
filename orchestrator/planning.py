"""The leader's side of the planner: start it, ask it, and survive whatever user code does to it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.abc
import msgspec

from orch import errors
from orch.attempt import Place, Plan
from orch.authoring.pickling import dumps, explain
from orch.errors import WorkflowError
from orch.work.framing import HEADER, Answer, Describe, Described, Made, MakePlan, Request, Trouble, encode
from orch.work.options import Description, Parameter

__all__ = ["Description", "Parameter", "Planner", "pack_arguments"]

GRACE = 0.5
"""Seconds that a planner has to leave after its last answer."""

_TAIL = 4096


class Planner:
    """A planner process. Use as `async with Planner.open(...) as planner`."""

    def __init__(self, process: anyio.abc.Process, echo: Callable[[bytes], None]) -> None:
        self._process = process
        self._echo = echo
        self._tail = b""
        self._silent = anyio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        bundle: str | os.PathLike[str],
        environment: Mapping[str, str],
        cwd: str,
        echo: Callable[[bytes], None] | None = None,
    ) -> AsyncIterator[Planner]:
        """Start a planner that imports the workflow from the directory `bundle`.

        `echo` gets what user code prints (default: to this process's stderr). Leaving the block ends the process and
        everything that it has started.
        """
        process = await anyio.open_process(
            [sys.executable, "-P", "-m", "orch.work.planner", os.fspath(bundle)],
            env=dict(environment),
            cwd=cwd or None,
            start_new_session=True,  # Ctrl-C is the leader's to handle
        )
        planner = cls(process, echo or _to_stderr)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(planner._drain)
                try:
                    yield planner
                finally:
                    with anyio.CancelScope(shield=True):
                        await planner._end()
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _only(group) from None

    async def describe(self) -> Description:
        """The workflow's options and help. Raises `WorkflowError`."""
        answer = await self._ask(Describe())
        assert isinstance(answer, Described)
        return answer.description

    async def plan(self, place: Place, run: str, argv: Sequence[str] | None = None, arguments: bytes = b"") -> Plan:
        """Call the workflow function, with command-line tokens or with arguments from `pack_arguments`.

        Large values and bodies are in the store, durable, when this returns. Raises `UserError`, `SystemTrouble`.
        """
        answer = await self._ask(MakePlan(place, run, None if argv is None else list(argv), arguments))
        assert isinstance(answer, Made)
        return answer.plan

    async def _ask(self, request: Request) -> Answer:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send(encode(request))
            header = await self._read(HEADER.size)
            data = await self._read(HEADER.unpack(header)[0])
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            raise await self._died() from None
        answer: Answer = msgspec.msgpack.decode(data, type=Answer)
        if isinstance(answer, Trouble):
            raise getattr(errors, answer.kind, WorkflowError)(answer.message)
        return answer

    async def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        parts = []
        while count:
            part = await self._process.stdout.receive(min(count, 1024 * 1024))
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    async def _died(self) -> WorkflowError:
        code = await self._process.wait()
        with anyio.move_on_after(GRACE):  # what it started may hold its stderr open
            await self._silent.wait()
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        said = self._tail.decode(errors="replace").strip()
        return WorkflowError(
            f"the process that imports and plans the workflow {how}, and gave no answer"
            + (f"; the last that it said:\n{said}" if said else "")
        )

    async def _drain(self) -> None:
        assert self._process.stderr is not None
        try:
            async for data in self._process.stderr:
                self._tail = (self._tail + data)[-_TAIL:]
                self._echo(data)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # the planner was ended
        finally:
            self._silent.set()

    async def _end(self) -> None:
        try:
            await self._leave_or_kill()
        finally:
            await self._process.aclose()

    async def _leave_or_kill(self) -> None:
        """Let the process leave; then end what is left of it, and what it has started."""
        assert self._process.stdin is not None
        with contextlib.suppress(anyio.BrokenResourceError, ConnectionError):
            await self._process.stdin.aclose()
        with anyio.move_on_after(GRACE):
            await self._process.wait()
            await self._silent.wait()
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


def pack_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """A workflow's arguments, pickled for `Planner.plan`. Raises `WorkflowError` that names what cannot be."""
    if not args and not kwargs:
        return b""
    named = {**{f"{number}": value for number, value in enumerate(args, 1)}, **kwargs}
    try:
        data, jobs = dumps((tuple(args), dict(kwargs)))
    except Exception as error:
        for name, value in named.items():
            try:
                dumps(value)
            except Exception as trouble:  # noqa: BLE001 - user code in __reduce__ may raise anything
                raise WorkflowError(explain(f"the workflow's argument {name}", value, trouble)) from error
        raise WorkflowError(f"the workflow's arguments cannot be pickled: {error}") from error
    if jobs:
        raise WorkflowError(
            f"job {jobs[0].label} is an argument of the workflow: a job belongs to the run whose workflow function, "
            f"or job, makes it. Make it there, and pass plain values"
        )
    return data


def _to_stderr(data: bytes) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no stderr, or one that is closed
        sys.stderr.write(data.decode(errors="replace"))
        sys.stderr.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
