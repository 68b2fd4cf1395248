"""The leader's side of the planner: start it, ask it, and survive whatever user code does to it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import msgspec

from orch import errors
from orch.attempt import Place, Plan
from orch.authoring.pickling import dumps, explain
from orch.environment import inherited, packed
from orch.errors import WorkflowError
from orch.manyjobs import ManyJobs
from orch.planner_process import take
from orch.work.framing import HEADER, Answer, Describe, Described, Load, Made, MakePlan, Request, Trouble, encode
from orch.work.options import Description, Parameter

__all__ = ["Description", "OpenPlanner", "Parameter", "Planner", "open_planner", "pack_arguments"]

GRACE = 0.5
"""Seconds that a planner has to leave after its last answer."""

_TAIL = 4096


class Talker(Protocol):
    """A process that plans, as `orch.planner_process.PlannerProcess`, which says what each does."""

    async def send(self, data: bytes) -> None: ...
    async def receive(self, count: int) -> bytes: ...
    async def receive_errors(self) -> bytes: ...
    async def wait(self) -> int: ...
    def close_stdin(self) -> None: ...
    def kill(self) -> None: ...
    def close_pipes(self) -> None: ...


class Planner:
    """A planner process. Use as `async with Planner.open(...) as planner`."""

    def __init__(self, process: Talker, echo: Callable[[bytes], None]) -> None:
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
        """Have a planner import the workflow from the directory `bundle`.

        `echo` gets what user code prints (default: to this process's stderr). Leaving the block ends the process and
        everything that it has started.
        """
        process = take(environment)
        async with cls.talk(process, echo) as planner:
            with contextlib.suppress(BrokenPipeError):  # the first question finds out
                await process.send(encode(Load(os.fspath(bundle), packed(environment), cwd)))
            yield planner

    @classmethod
    @contextlib.asynccontextmanager
    async def talk(cls, process: Talker, echo: Callable[[bytes], None] | None = None) -> AsyncIterator[Planner]:
        """Talk to a process that has, or gets before anything else, what `open` sends."""
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
        finally:
            process.close_pipes()

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
        if not answer.portions:
            return answer.plan
        jobs = ManyJobs()
        for _ in range(answer.portions):
            jobs.add(await self._frame())
        return msgspec.structs.replace(answer.plan, jobs=jobs)

    async def _ask(self, request: Request) -> Answer:
        with contextlib.suppress(BrokenPipeError):  # who waits for the answer finds out
            await self._process.send(encode(request))
        answer: Answer = msgspec.msgpack.decode(await self._frame(), type=Answer)
        if isinstance(answer, Trouble):
            raise getattr(errors, answer.kind, WorkflowError)(answer.message)
        return answer

    async def _frame(self) -> bytes:
        try:
            header = await self._read(HEADER.size)
            return await self._read(HEADER.unpack(header)[0])
        except (EOFError, BrokenPipeError):
            raise await self._died() from None

    async def _read(self, count: int) -> bytes:
        parts = []
        while count:
            part = await self._process.receive(count)
            if not part:
                raise EOFError
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
        try:
            while data := await self._process.receive_errors():
                self._tail = (self._tail + data)[-_TAIL:]
                self._echo(data)
        finally:
            self._silent.set()

    async def _end(self) -> None:
        """Let the process leave; then end what is left of it, and what it has started."""
        self._process.close_stdin()
        with anyio.move_on_after(GRACE):
            await self._process.wait()
            await self._silent.wait()
        self._process.kill()
        await self._process.wait()


class PlannerHere:
    """Plans in this process, where breakpoints work: for runs whose jobs run here as well."""

    def __init__(self, bundle: str | os.PathLike[str], environment: Mapping[str, str]) -> None:
        self._bundle = os.fspath(bundle)
        self._environment = environment

    async def plan(self, place: Place, run: str, argv: Sequence[str] | None = None, arguments: bytes = b"") -> Plan:
        """As `Planner.plan`; nothing else goes on meanwhile."""
        from orch.work.foreground import interruptible, load_here, no_loop, variables
        from orch.work.planner import make_plan

        inherited.update(self._environment)
        request = MakePlan(place, run, None if argv is None else list(argv), arguments)
        with interruptible(), no_loop(), variables(self._environment):
            return make_plan(load_here(self._bundle, run), request)


@contextlib.asynccontextmanager
async def open_planner(
    bundle: str | os.PathLike[str], environment: Mapping[str, str], cwd: str, *, here: bool = False
) -> AsyncIterator[Planner | PlannerHere]:
    """A planner of its own, or with `here` this process."""
    if here:
        yield PlannerHere(bundle, environment)
        return
    async with Planner.open(bundle, environment, cwd) as planner:
        yield planner


class OpenPlanner(Protocol):
    """What opens a planner, as `open_planner` does."""

    def __call__(
        self, bundle: str | os.PathLike[str], environment: Mapping[str, str], cwd: str, *, here: bool = False
    ) -> contextlib.AbstractAsyncContextManager[Planner | PlannerHere]:
        """A planner."""
        ...


def pack_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """A workflow's arguments, pickled for `Planner.plan`. Raises `WorkflowError` that names what cannot be."""
    if not args and not kwargs:
        return b""
    named = {**{f"{number}": value for number, value in enumerate(args, 1)}, **kwargs}
    try:
        data, jobs = dumps((tuple(args), dict(kwargs)))
    except Exception as error:  # a user's __reduce__ may raise anything
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
