"""Attempts in the leader's own process: for breakpoints, and for whoever wants to see everything in one place.

One attempt runs at a time, in the thread of the leader's event loop, which stands still meanwhile. Standard input and
output are the terminal's: what Python code prints is seen at once, and kept as well; what a program prints is seen at
its end. Nothing limits memory or time here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TextIO

import msgspec

from orch.agent.captures import Capture, Captures, Stream
from orch.agent.commands import CannotStart, Commands
from orch.agent.outcomes import verdict_of_status
from orch.attempt import Attempt, Note, Outcome, Place, Reason
from orch.bus.events import Blob, Usage
from orch.bus.identity import utc_now
from orch.environment import inherited
from orch.errors import OrchError, StoreError
from orch.store import layout
from orch.store.blobs import make_blob
from orch.store.file import FileStore
from orch.work import deferred, spares
from orch.work.command import command_value
from orch.work.execute import run_attempt
from orch.work.loader import LoadedWorkflow, load
from orch.work.surroundings import scratch_name

DEFERRED_SECONDS = 300.0
"""What an attempt has deferred to its end may take so long."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_loaded: dict[tuple[str, str], LoadedWorkflow] = {}


class Interrupted(Exception):
    """A signal has ended what ran; whoever handles that signal in this process hears of it next."""


class Foreground:
    """Runs attempts of one run. `environment` is that of the run.

    `directory` is for nameless files, `kept` for what is left in scratch directories, where that is wanted.
    """

    def __init__(self, place: Place, environment: Mapping[str, str], directory: str, kept: str) -> None:
        self.place = place
        self._environment = dict(environment)
        self._kept = kept
        self._store = FileStore(place.store)
        self._captures = Captures(directory)
        self._commands = Commands("inprocess", self._store)
        inherited.update(environment)

    def close(self) -> None:
        """Let go of spare files."""
        self._captures.close()

    def run(self, attempt: Attempt, emit: Callable[[Note], None]) -> Outcome:
        """Run an attempt to its end. Raises `Interrupted`."""
        capture = self._captures.take(attempt.max_log)
        began, before = time.monotonic(), _used()
        try:
            outcome = self._run(attempt, emit, capture)
            self._make_deferred(attempt, capture)
            self._clear(attempt, outcome.reason, emit)
            wall, after = time.monotonic() - began, _used()
            usage = Usage(wall=wall, user=after[0] - before[0], system=after[1] - before[1], disk=outcome.usage.disk)
            return self._concluded(attempt, outcome, capture, usage)
        finally:
            self._captures.give_back(capture)

    def serve(self, attempt: Attempt, emit: Callable[[Note], None], stop_signal: int) -> Outcome:
        """Run a service to its end, in a thread of its own. Its output is only shown."""
        began = time.monotonic()
        outcome = run_attempt(attempt, self.place, emit, stop_signal=stop_signal, aside=True)
        self._clear(attempt, outcome.reason, emit)
        usage = Usage(wall=time.monotonic() - began, disk=outcome.usage.disk)
        return msgspec.structs.replace(outcome, usage=usage, ended=utc_now())

    def refused(self, attempt: Attempt) -> Outcome | None:
        """How an attempt ends that cannot begin: its code cannot be imported, or it is doomed."""
        if attempt.doom:
            return Outcome(key=attempt.key, reason=Reason.LOST, message="killed on purpose: --chaos", ended=utc_now())
        if not attempt.bundle:
            return None
        try:
            load_here(os.path.join(self.place.store, layout.bundle_dir(attempt.bundle)), attempt.run)
        except OrchError as error:
            return Outcome(key=attempt.key, reason=Reason.FAILED, message=str(error), host=self.place.host)
        return None

    def _run(self, attempt: Attempt, emit: Callable[[Note], None], capture: Capture) -> Outcome:
        with interruptible() as signals:
            outcome = self._in_place(attempt, emit, capture)
        if signals and outcome.reason is not Reason.FINISHED:  # user code has made an outcome of it
            raise Interrupted
        return outcome

    def _in_place(self, attempt: Attempt, emit: Callable[[Note], None], capture: Capture) -> Outcome:
        if attempt.program:
            return self.refused(attempt) or self._command(attempt, capture)
        with no_loop(), variables(self._environment), _kept(capture):
            return self.refused(attempt) or run_attempt(attempt, self.place, emit)

    def _command(self, attempt: Attempt, capture: Capture) -> Outcome:
        here = os.getcwd()
        scratch = os.path.join(self.place.scratch, scratch_name(attempt.key))
        try:
            spares.make(scratch)
            pid = self._commands.start(attempt, {**self._environment, **attempt.env}, scratch, capture)
        except CannotStart as error:
            return Outcome(key=attempt.key, reason=Reason.FAILED, exit_code=error.exit_code, message=str(error))
        except (OSError, StoreError) as error:
            return Outcome(key=attempt.key, reason=Reason.ERROR, message=f"it cannot be started: {error}")
        finally:
            os.chdir(here)
        try:
            status = os.waitpid(pid, 0)[1]
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it has left running, or itself if we were interrupted
                os.killpg(pid, signal.SIGKILL)
        for stream, end in ((capture.out, sys.stdout), (capture.err, sys.stderr)):
            end.write(stream.read()[0].decode(errors="replace"))
            end.flush()
        return verdict_of_status(attempt.key, status)

    def _clear(self, attempt: Attempt, reason: Reason, emit: Callable[[Note], None]) -> None:
        """Remove the scratch directory of an attempt that has ended like this, or say where it is kept."""
        path = os.path.join(self.place.scratch, scratch_name(attempt.key))
        if not attempt.keeps_scratch(reason):
            shutil.rmtree(path, ignore_errors=True)
        elif kept := spares.keep(path, self._kept):
            emit(Note(attempt.key, "annotate", name=spares.NOTE, value=kept))

    def _make_deferred(self, attempt: Attempt, capture: Capture) -> None:
        path = deferred.file_of(self.place.deferred, attempt.key)
        if path.exists():
            make_deferred(path, self.place.store, self._environment, capture.err.file)

    def _concluded(self, attempt: Attempt, outcome: Outcome, capture: Capture, usage: Usage) -> Outcome:
        value = outcome.value
        try:
            if attempt.program and outcome.reason is Reason.FINISHED:
                data = command_value(0, capture.out.read()[0], capture.err.read()[0])
                value = make_blob(self._store, layout.value_file(attempt.run, attempt.job, attempt.attempt), data)
            out, err = (self._blob(attempt, capture.out, "stdout"), self._blob(attempt, capture.err, "stderr"))
        except (OSError, StoreError) as error:
            message = f"its output cannot be kept: {error}"
            return Outcome(key=attempt.key, reason=Reason.ERROR, message=message, host=self.place.host)
        host, ended = self.place.host, utc_now()
        return msgspec.structs.replace(
            outcome, value=value, stdout=out, stderr=err, usage=usage, host=host, ended=ended
        )

    def _blob(self, attempt: Attempt, stream: Stream, name: str) -> Blob:
        path = layout.output_file(attempt.run, attempt.job, attempt.name or attempt.kind, attempt.attempt, name)
        return stream.blob(self._store, path)


def load_here(bundle: str, run: str) -> LoadedWorkflow:
    """Import the workflow in that directory into this process, once a run. Raises `WorkflowError`.

    Pickles name modules: of several runs in one process, the one that works now has its own where they look.
    """
    found = _loaded.get((run, bundle))
    if found is None:
        found = _loaded[run, bundle] = load(bundle)
    if found.module is not None:
        sys.modules[found.module.__name__] = found.module
    return found


def forget(run: str) -> None:
    """The run is over in this process."""
    for key in [key for key in _loaded if key[0] == run]:
        del _loaded[key]


def make_deferred(path: os.PathLike[str], store: str, environment: Mapping[str, str], output: int) -> None:
    """Make the calls that an attempt has deferred, in a process of their own. What goes wrong is in the output."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            deferred.command(os.fspath(path), store),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=DEFERRED_SECONDS,
            check=False,
        )
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# What belongs to the whole process ------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_loop() -> Iterator[None]:
    """No event loop runs in this thread while the block lasts, as far as asyncio knows: jobs may run one of their own.

    For what is called see "Extending" in the documentation of asyncio, and `asyncio.events`.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        asyncio.tasks._leave_task(loop, task)  # noqa: SLF001 - see above
    asyncio._set_running_loop(None)  # noqa: SLF001 - see above
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001 - see above
        if task is not None:
            asyncio.tasks._enter_task(loop, task)  # noqa: SLF001 - see above


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Signals that are to end this process end the block, as they end a program; then they are told once more.

    The loop's own handlers would hear of them only once the block is over. Gives the list of those that came. Raises
    `Interrupted`, unless user code has stopped that.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    wake = signal.set_wakeup_fd(-1)
    try:
        for each in [number for number, handler in before.items() if handler is not signal.SIG_IGN]:
            signal.signal(each, end)
        yield came
    except BaseException as error:
        if came:
            raise Interrupted from error
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        signal.set_wakeup_fd(wake)
        for one in came:
            signal.raise_signal(one)


@contextlib.contextmanager
def variables(environment: Mapping[str, str]) -> Iterator[None]:
    """The environment of the run, where this process has another one: what `--set-env` says."""
    changed = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _kept(capture: Capture) -> Iterator[None]:
    """What Python code prints is kept as well."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Tee(before[0], capture.out), _Tee(before[1], capture.err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Tee:
    """A text stream, with all that it has: a debugger finds the terminal behind it. What is written is kept."""

    def __init__(self, stream: TextIO, kept: Stream) -> None:
        self._stream = stream
        self._kept = kept

    def write(self, text: str) -> int:
        """Show and keep it."""
        os.write(self._kept.file, text.encode("utf-8", "backslashreplace"))
        self._kept.bound()
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Show and keep them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _used() -> tuple[float, float]:
    """Seconds of this process, and of its children that have ended: user and system."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + children.ru_utime, own.ru_stime + children.ru_stime
