"""Runs a reproduction (see `orch.debugging`) in the foreground, in this process, which does nothing else."""

from __future__ import annotations

import bdb
import os
import platform
import pprint
import reprlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from orch.attempt import Attempt, CommandSpec, Note, Outcome, Place, Reason
from orch.errors import OrchError
from orch.sizes import format_duration, format_size
from orch.store.layout import bundle_dir

if TYPE_CHECKING:
    from orch.work.execute import Call

ATTEMPT = "attempt.json"
STORE = "store"
SCRATCH = "scratch"
DEFERRED = "deferred"


def run_reproduction(directory: Path, *, pdb: bool = False) -> int:
    """Run it; 0 if it ends well. What it returns goes to stdout, what is said of it to stderr.

    With `pdb`, a debugger stops at the first line of the job's function, and where that raises.
    """
    attempt = msgspec.json.decode((directory / ATTEMPT).read_bytes(), type=Attempt)
    store = directory / STORE
    for name in (SCRATCH, DEFERRED):
        (directory / name).mkdir(exist_ok=True, mode=0o700)
    if attempt.form == "command":
        return _command(attempt, store, directory / SCRATCH)
    place = Place(str(store), str(directory / SCRATCH), platform.node(), str(directory / DEFERRED))
    try:
        return _python(attempt, place, pdb=pdb)
    finally:
        _deferred(place)


def _say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is a program


# A job in Python ----------------------------------------------------------------------------------------------------


def _python(attempt: Attempt, place: Place, *, pdb: bool) -> int:
    from orch.environment import inherited
    from orch.work.execute import run_attempt
    from orch.work.loader import load

    inherited.update(os.environ)
    if attempt.bundle:
        try:
            load(os.path.join(place.store, bundle_dir(attempt.bundle)))
        except OrchError as error:
            _say(str(error))
            return 1
    seen: list[Any] = []
    stop = _stopped_by_interrupt() if attempt.form == "service" else -1
    begun = time.monotonic()
    outcome = run_attempt(attempt, place, _emit, stop_signal=stop, call=_watched(seen, pdb=pdb))
    return _report(outcome, seen, time.monotonic() - begun)


def _watched(seen: list[Any], *, pdb: bool) -> Call:
    """Calls a function as workers do, says so, and keeps what it returns."""
    from orch.work.execute import call_function

    def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shown = [*map(reprlib.repr, args), *(f"{name}={reprlib.repr(value)}" for name, value in kwargs.items())]
        plain = getattr(function, "__wrapped__", function)
        _say(f"calls {getattr(plain, '__qualname__', plain)}({', '.join(shown)})")
        seen.append(_debugged(plain, args, kwargs) if pdb else call_function(function, args, kwargs))
        return seen[-1]

    return call


def _debugged(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Stops at the first line of the function, `async` or not, and again where something is raised."""
    from pdb import Pdb

    from orch.work.execute import call_function

    debugger = Pdb(nosigint=True)
    debugger.reset()
    code = _first_code(function, args)
    if code is not None:  # else it stops at the first line in Python that it comes to
        debugger.set_break(code.co_filename, code.co_firstlineno, temporary=True, funcname=code.co_name)
        debugger.botframe = sys._getframe()  # noqa: SLF001 - what is not stopped in: all up to the breakpoint
        debugger.set_continue()
    sys.settrace(debugger.trace_dispatch)
    try:
        return call_function(function, args, kwargs)
    except bdb.BdbQuit:
        raise
    except BaseException as error:
        sys.settrace(None)
        _say(f"{type(error).__name__}: {error}")
        debugger.reset()
        debugger.interaction(None, error.__traceback__)
        raise
    finally:
        sys.settrace(None)


def _first_code(function: Any, args: tuple[Any, ...]) -> Any:
    """The user's code that runs first: of a job or service that is an object, a method of its class."""
    if str(getattr(function, "__module__", "")).startswith("orch.") and args:
        methods = (getattr(type(args[0]), name, None) for name in ("run", "start"))
        function = next(filter(None, methods), function)
    return getattr(function, "__code__", None)


def _stopped_by_interrupt() -> int:
    """A descriptor at whose end a service stops. Ctrl-C gets it there; a second one interrupts, as ever."""
    reading, writing = os.pipe()

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(writing)

    signal.signal(signal.SIGINT, stop)
    _say("a service: Ctrl-C stops it")
    return reading


def _emit(note: Note) -> None:
    match note.kind:
        case "log":
            _say(f"logs ({note.name or note.level}): {note.value}")
        case "annotate":
            _say(f"notes {note.name} = {note.value!r}")
        case "up":
            _say("the service is up")


def _report(outcome: Outcome, seen: list[Any], seconds: float) -> int:
    """Say how it ended."""
    for line in outcome.warnings:
        _say(line)
    for file in outcome.files:
        _say(f"wrote {file.path.rpartition('/')[2]} ({format_size(file.size)}), into the copy of the store")
    if outcome.jobs:
        labels = [job.name or job.kind for job in outcome.jobs]
        more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
        _say(f"made jobs, which do not run here: {', '.join(labels[:10])}{more}")
    if outcome.reason is not Reason.FINISHED:
        _say(f"ended as {outcome.reason} after {format_duration(seconds)}: {outcome.message}")
        return 1
    _say(f"returned after {format_duration(seconds)}:")
    pprint.pp(seen[-1] if seen else None)
    sys.stdout.flush()
    return 0


def _deferred(place: Place) -> None:
    """Make the calls that the attempt has put off until its end."""
    from orch.work.deferred import command, pending

    for file in pending(place.deferred):
        _say("runs what it deferred")
        subprocess.run(command(file, place.store), check=False)
        file.unlink(missing_ok=True)


# A program ----------------------------------------------------------------------------------------------------------


def _command(attempt: Attempt, store: Path, scratch: Path) -> int:
    from orch.store.blobs import blob_bytes
    from orch.store.file import FileStore

    spec = msgspec.json.decode(blob_bytes(FileStore(store), attempt.body), type=CommandSpec)
    directory = scratch / spec.cwd
    directory.mkdir(parents=True, exist_ok=True)
    _say(f"runs {spec.argv}")
    environment = {**os.environ, **attempt.env, **spec.env, "TMPDIR": str(scratch)}
    begun = time.monotonic()
    try:
        done = subprocess.run(spec.argv, env=environment, cwd=directory, input=spec.stdin, check=False)
    except OSError as error:
        _say(f"{spec.argv[0]} cannot be started: {error.strerror}")
        return 1
    how = f"exit code {done.returncode}" if done.returncode >= 0 else f"killed by signal {-done.returncode}"
    _say(f"ended after {format_duration(time.monotonic() - begun)}: {how}")
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(run_reproduction(Path(sys.argv[1]), pdb="--pdb" in sys.argv[2:]))
