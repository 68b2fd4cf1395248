"""What the commands share: from an error to a message and an exit code, and from RUN and JOB to what they name."""

from __future__ import annotations

import errno
import gc
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orch.bus.errors import LogDamaged, OrchError

if TYPE_CHECKING:
    from orch.state.model import Job, State
    from orch.store.file import FileStore

INTERNAL = 6
"""Exit code when the fault is ours, or the system's."""

INTERRUPTED = 130
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def is_alone() -> bool:
    """Does this process do nothing but one command? Then the collector was switched off at its begin."""
    return not gc.isenabled()


RARELY = (7_000, 10, 100)
"""Python's own numbers are for programs that make much garbage in circles. A leader makes next to none, and with a
million jobs each look at everything takes as long as a thousand of them."""


def collect_again() -> None:
    """What follows takes its time, and may make garbage; what there is now stays."""
    if is_alone():
        gc.freeze()
        gc.set_threshold(*RARELY)
        gc.enable()


def say(text: str) -> None:
    """A line for the user, on stderr: stdout is for results."""
    print(harmless(text), file=sys.stderr, flush=True)


def harmless(text: str) -> str:
    """`text` with nothing in it that a terminal obeys, but for line ends and tabs: no colours, the rest as hex."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _COLOUR.sub("", text))


def guarded(command: Callable[[], int], *, debug: Callable[[], bool]) -> int:
    """Run a command; whatever it raises becomes a message and an exit code, here and only here."""
    try:
        code = command()
        sys.stdout.flush()
    except OrchError as error:
        if debug():
            _traceback()
        complain(error)
        return error.exit_code
    except BrokenPipeError:
        forget_stdout()
        return 0
    except KeyboardInterrupt:
        say("orch: interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said
        return _unexpected(error, debug=debug())
    return code


def _unexpected(error: BaseException, *, debug: bool) -> int:
    from orch.state.graph import IllegalTransition

    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BrokenPipeError):
        forget_stdout()
        return 0
    if isinstance(error, OSError) and not _flushed():
        forget_stdout()
    if debug:
        _traceback()
    if isinstance(error, OrchError):
        complain(error)
        return error.exit_code
    if isinstance(error, IllegalTransition):
        say(f"orch: the log is not one that orch has written: {error}")
        return 4
    if isinstance(error, OSError) and (error.errno in NO_SPACE or error.filename):
        where = f" ({error.filename})" if error.filename else ""
        hint = "; free some space and try again" if error.errno in NO_SPACE else ""
        say(f"orch: {error.strerror or error}{where}{hint}")
        return INTERNAL
    more = "" if debug else "; --log-level debug shows where"
    say(f"orch: internal error, please report it: {type(error).__name__}: {error}{more}")
    return INTERNAL


def complain(error: OrchError) -> None:
    """Say what an error says, and where it is damage how to find out more."""
    text = str(error)
    say(text if text.startswith("orch ") else f"orch: {text}")
    if isinstance(error, LogDamaged) and error.path is not None:
        which = _which_log(error.path)
        say(f"all that is wrong: orch log verify{which} · what can be got back: orch log repair{which} --dry-run")


def _which_log(segment: Path) -> str:
    """The words that name the log of a segment, as `log verify` takes them: its run and store, or its directory."""
    from orch.hints import store_option
    from orch.store.file import FileStore

    log = segment.parent
    if log.name == "log" and log.parent.parent.name == "runs":
        return f" {log.parent.name}{store_option(FileStore(log.parent.parent.parent))}"
    return f" --store {shlex.quote(str(log))}"


def _traceback() -> None:
    import traceback

    traceback.print_exc(file=sys.stderr)


def prepare_streams() -> None:
    """Streams may be closed, or know few characters; neither is a reason to fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives
        else:
            stream.reconfigure(errors="backslashreplace")


def _flushed() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def forget_stdout() -> None:
    """Our output cannot be written any more: what is still buffered must not complain when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# RUN and JOB -----------------------------------------------------------------------------------------------------


def find_store(locator: str) -> FileStore:
    """The store, which must exist. Raises `NoSuchRun` if there is none."""
    from orch.errors import NoSuchRun
    from orch.store.locator import open_store

    store = open_store(locator)
    if not store.root.is_dir():
        raise NoSuchRun(f"there is no store at {store.root}: name one with --store, or begin with orch run")
    return store


def find_run(store: FileStore, run: str | None) -> str:
    """The id of the run that is meant; the newest by default. Raises `NoSuchRun`."""
    from orch.cli.usage import did_you_mean
    from orch.errors import NoSuchRun
    from orch.hints import store_option
    from orch.store.layout import log_dir
    from orch.store.runs import check_run_id, list_runs, newest_run

    if run is None:
        return newest_run(store)
    if not store.local_path(log_dir(check_run_id(run))).is_dir():
        near = did_you_mean(run, list_runs(store))
        raise NoSuchRun(f"the store {store.root} has no run {run!r}{near}; see: orch list{store_option(store)}")
    return run


def find_log(locator: str, run: str | None) -> tuple[Path, str | None]:
    """The directory of the run's log, and its id; without id where one of the two is itself a copied log or run."""
    from orch.errors import NoSuchRun
    from orch.history import copied_log
    from orch.store.layout import log_dir

    copied = copied_log(run if run and os.sep in run else locator) if run is None or os.sep in run else None
    if copied is not None:
        return copied, None
    if run is not None and os.sep in run:
        raise NoSuchRun(f"{run!r} cannot be a run id, and no log is there; a store goes with --store")
    store = find_store(locator)
    found = find_run(store, run)
    return store.local_path(log_dir(found)), found


def store_hint(locator: str) -> str:
    """What a suggested command needs to find the same store, as `orch.hints.store_option`."""
    from orch.hints import store_option
    from orch.store.locator import open_store

    return store_option(open_store(locator))


def find_job(state: State, job: str, where: str = "") -> Job:
    """The job that is meant by an id, or by a kind or display name that only one job has. Raises `NoSuchJob`.

    `where`: the option that names the store, for a hint.
    """
    from orch.cli.usage import did_you_mean
    from orch.errors import NoSuchJob
    from orch.state.law import JobState

    run = state.created.run if state.created else "?"
    rows = {row.id: row for row in state.jobs.values() if row.state is not JobState.ADDED}
    if job.isdecimal() and int(job) in rows:
        return rows[int(job)]
    named = [row for row in rows.values() if row.name == job] or [row for row in rows.values() if row.kind == job]
    if len(named) == 1:
        return named[0]
    if named:
        some = ", ".join(f"{row.label} ({row.state})" for row in named[:10])
        more = f" and {len(named) - 10} more" if len(named) > 10 else ""
        raise NoSuchJob(f"{len(named)} jobs of run {run} are called {job!r}, name one by its number: {some}{more}")
    names = {row.kind for row in rows.values()} | {row.name for row in rows.values()}
    raise NoSuchJob(f"run {run} has no job {job!r}{did_you_mean(job, names)}; see: orch status {run}{where}")


def who() -> str:
    """This process, as the log names whoever wished for something."""
    from orch.bus.identity import whoami

    me = whoami()
    return f"{me.user}@{me.host}, process {me.pid}"
