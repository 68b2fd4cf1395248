"""Run one attempt at a Python job in this process: forked for it, or a warm worker that runs many.

Light to import: nothing here needs an event loop, and what only some jobs use is imported when they use it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from orch.attempt import Attempt, Note, Outcome, Place, Reason
from orch.authoring.collect import collect
from orch.authoring.functions import JobFunction
from orch.authoring.nodes import Job
from orch.authoring.scope import Scope
from orch.bus.events import Blob, Usage
from orch.errors import OrchError, SystemTrouble
from orch.work.context import Context, Who
from orch.work.failure import ProgramFailed
from orch.work.surroundings import Surroundings, scratch_name
from orch.work.values import Values

__all__ = ["Call", "call_function", "run_attempt", "scratch_name"]

Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Calls a function with these arguments; the value."""


def run_attempt(
    attempt: Attempt,
    place: Place,
    emit: Callable[[Note], None],
    *,
    stop_signal: int = -1,
    lent: str = "",
    aside: bool = False,
    last: bool = False,
    call: Call | None = None,
) -> Outcome:
    """Run the body and say what it left behind. Never raises; `emit` gets what the body logs and annotates.

    What the body prints goes where this process's stdout and stderr go; so does its traceback. Usage is left to the
    caller, but for the scratch space. A survey does not call the body, but says what the call would be.

    `stop_signal`  of a service: the descriptor that can be read, or is at its end, once it is to stop
    `lent`, `last` as for `orch.work.surroundings.Surroundings`
    `aside`        this is a thread, and other attempts run in this process: what belongs to all of it is left alone,
                   and only this thread sees the context
    `call`         what calls the body's function, in place of `call_function`: for whoever wants to watch
    """
    try:
        around = Surroundings(place.scratch, attempt.key, attempt.cwd, attempt.env, lent=lent, aside=aside, last=last)
        with around:
            context = Context(_who(attempt), place, around.path, emit, stop_signal=stop_signal, aside=aside)
            outcome = _run(attempt, context, call or call_function)
            around.keep = attempt.keeps_scratch(outcome.reason)
            _flush()
    except OSError as error:
        return _ended(attempt, Reason.ERROR, f"the scratch directory in {place.scratch} cannot be made: {error}")
    finally:
        _flush()
    outcome = msgspec.structs.replace(outcome, host=place.host)
    return msgspec.structs.replace(outcome, usage=Usage(disk=around.used)) if around.used else outcome


def _who(attempt: Attempt) -> Who:
    return Who(
        key=attempt.key,
        run=attempt.run,
        job=attempt.job,
        attempt=attempt.attempt,
        surveys=attempt.surveys,
        label=f"{attempt.name or attempt.kind} [job {attempt.job}]",
        resources=attempt.resources,
        max_log=attempt.max_log,
        bundle=attempt.bundle,
        cwd=attempt.cwd,
        form=attempt.form,
    )


def _run(attempt: Attempt, context: Context, call: Call) -> Outcome:
    process = os.getpid()
    scope = Scope()
    try:
        with context, contextlib.nullcontext() if context.aside else scope:
            if attempt.survey:
                from orch.work.survey import survey

                values = _values(attempt, context)
                return survey(attempt, context.who.label, values, _fetch(context), _code(attempt, context))
            value = call(*_values(attempt, context).load_body(attempt.body, attempt.needs))
            if os.getpid() != process:
                _leave(0)
            return _succeeded(attempt, context, scope, value)
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is an outcome
        if os.getpid() != process:
            _leave(error)
        return _failed(attempt, error)


def _code(attempt: Attempt, context: Context) -> str:
    """The digest of the workflow's code; empty if nothing tells what that is."""
    if not attempt.cache or not attempt.bundle:
        return ""
    from orch.store.layout import bundle_dir
    from orch.work.manifest import read_manifest

    manifest = read_manifest(str(context.store.local_path(bundle_dir(attempt.bundle))))
    return attempt.bundle if manifest.stored else ""


def _values(attempt: Attempt, context: Context) -> Values:
    return Values(attempt.values, _fetch(context), context.who.label)


def call_function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a job's or a workflow's function; one that is `async` is run to its end."""
    if isinstance(function, JobFunction):
        function = function.__wrapped__
    try:
        value = function(*args, **kwargs)
    except KeyError as error:
        if error.args and isinstance(error.args[0], Job):
            error.add_note("A job has no value yet, so it cannot be looked up: pass both to a job that does it.")
        raise
    if type(value) is types.CoroutineType:
        import asyncio

        return asyncio.run(value)
    return value


def _fetch(context: Context) -> Callable[[Blob], bytes]:
    def fetch(blob: Blob) -> bytes:
        if not blob.file:
            return blob.data
        from orch.store.blobs import blob_bytes

        return blob_bytes(context.store, blob, verify=True)

    return fetch


def _succeeded(attempt: Attempt, context: Context, scope: Scope, value: Any) -> Outcome:
    parts = collect(value, scope.calls, context.keep, _shown_name)
    return Outcome(
        key=attempt.key,
        reason=Reason.FINISHED,
        exit_code=0,
        value=parts.value,
        refs=parts.refs,
        alias=parts.alias,
        jobs=parts.jobs,
        files=context.files,
        warnings=parts.warnings,
    )


def _failed(attempt: Attempt, error: BaseException) -> Outcome:
    if isinstance(error, ProgramFailed):
        return _ended(attempt, Reason.FAILED, str(error), exit_code=error.code, signal=error.signal, error=error)
    if isinstance(error, SystemExit):
        return _exited(attempt, error)
    if is_debugger_left(error):
        return _left_debugger(attempt, error)
    _print_trace(error)
    if isinstance(error, MemoryError):
        message = f"out of memory: {_headline(error)}"
        return _ended(attempt, Reason.MEMLIMIT, message, exit_code=1, error=error)
    if isinstance(error, SystemTrouble):
        return _ended(attempt, Reason.ERROR, str(error), exit_code=1, error=error)
    message = str(error) if isinstance(error, OrchError) else _headline(error)
    return _ended(attempt, Reason.FAILED, message, exit_code=1, error=error)


def _exited(attempt: Attempt, error: SystemExit) -> Outcome:
    """`sys.exit` in a job: never a value, so never a success."""
    message, code = "called sys.exit", error.code
    if code is None or code == 0:
        return _ended(attempt, Reason.FAILED, f"{message}({code or 0}) instead of returning", exit_code=0, error=error)
    if isinstance(code, int):
        return _ended(attempt, Reason.FAILED, f"{message}({code})", exit_code=code & 0xFF, error=error)
    _say(str(code))
    return _ended(attempt, Reason.FAILED, f"{message}: {str(code).strip():.200}", exit_code=1, error=error)


def is_debugger_left(error: BaseException) -> bool:
    """Is it `bdb.BdbQuit`? That module is not imported for this."""
    return type(error).__name__ == "BdbQuit"


def _left_debugger(attempt: Attempt, error: BaseException) -> Outcome:
    """Also a `breakpoint()` where nobody can type ends like this."""
    if can_type():
        return _ended(attempt, Reason.FAILED, "the debugger was left", exit_code=1, error=error)
    _print_trace(error)
    message = "breakpoint() has no terminal here: use orch run --in-process, or orch debug for this job alone"
    return _ended(attempt, Reason.FAILED, message, exit_code=1, error=error)


def can_type() -> bool:
    """Is there a stdin, for whoever sits at a debugger? Workers and planners have an empty one."""
    try:
        return not os.path.samestat(os.fstat(0), os.stat(os.devnull))
    except OSError:  # stdin is closed
        return False


def _ended(
    attempt: Attempt,
    reason: Reason,
    message: str,
    *,
    exit_code: int | None = None,
    signal: int = 0,
    error: BaseException | None = None,
) -> Outcome:
    message = message.encode("utf-8", "backslashreplace").decode()  # user text may have halves of characters
    errors = [] if error is None else [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__[:-1]]
    return Outcome(key=attempt.key, reason=reason, exit_code=exit_code, signal=signal, message=message, errors=errors)


def _headline(error: BaseException) -> str:
    from orch.work.traces import headline

    return headline(error)


def _shown_name(file: str) -> str:
    from orch.work.traces import shown_name

    return shown_name(file)


def _print_trace(error: BaseException) -> None:
    from orch.work.traces import short_trace

    try:
        _say(short_trace(error))
    except Exception as trouble:  # noqa: BLE001 - out of memory, odd exceptions …: the outcome counts
        _say(f"(the traceback cannot be printed: {type(trouble).__name__})")


def _say(text: str) -> None:
    """To stderr, as far as user code has left us one."""
    for stream in (sys.stderr, sys.__stderr__):
        try:
            stream.write(f"{text}\n")  # type: ignore[union-attr]  # None is caught below
        except (AttributeError, OSError, ValueError):
            continue
        return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, full, or closed by user code
            continue


def _leave(end: BaseException | int) -> NoReturn:
    """End a process that user code has forked and that came back here: it must not tell an outcome as well."""
    _flush()
    code = end.code if isinstance(end, SystemExit) else end
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
