"""From how an attempt ended to what its leader gets."""

from __future__ import annotations

import os
import resource
import signal

import msgspec

from orch.agent.model import Task
from orch.attempt import Outcome, Reason
from orch.bus.events import EMPTY, Blob, Usage
from orch.bus.identity import utc_now
from orch.errors import StoreError
from orch.store import layout
from orch.store.blobs import blob_bytes, make_blob
from orch.store.file import FileStore
from orch.work.command import command_value
from orch.work.surroundings import size_on_disk

MOST_FILES = 20_000
"""So many files of a scratch directory are counted, for the agent has other things to do."""

_VALUE = command_value(0, b"", b"")
_QUIET = Blob(data=_VALUE, size=len(_VALUE))
"""The value of a command that has printed nothing."""


CHAOS = "killed on purpose: --chaos"


def verdict_of_status(key: str, status: int) -> Outcome:
    """How a program ended, by the status that wait(2) gave."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return Outcome(key=key, reason=Reason.FINISHED, exit_code=0)
    if code < 0:
        return Outcome(key=key, reason=Reason.FAILED, signal=-code, message=f"killed by signal {signal_name(-code)}")
    return Outcome(key=key, reason=Reason.FAILED, exit_code=code, message=f"exit code {code}")


def verdict_of_fork(key: str, status: int | None) -> Outcome:
    """How a process ended that was to run a Python body and left no outcome; `status` None: with its template."""
    if status is None:
        return Outcome(key=key, reason=Reason.LOST, message="the process that it was forked from has died")
    found = verdict_of_status(key, status)
    if found.reason is Reason.FINISHED or found.exit_code is not None:
        code = found.exit_code
        return Outcome(
            key=key, reason=Reason.FAILED, exit_code=code, message=f"its process ended by itself with exit code {code}"
        )
    return found


def signal_name(number: int) -> str:
    """A signal for people: "SIGSEGV (11)"."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return str(number)


def conclude(task: Task, store: FileStore, host: str) -> Outcome:
    """The outcome of an attempt: what it printed and used is added to how it ended."""
    verdict = task.verdict
    if task.kill is not None and (task.farewell or verdict is None or verdict.reason is not Reason.FINISHED):
        verdict = Outcome(key=task.key, reason=task.kill, message=task.why)
    elif (
        task.attempt.doom and task.started_at and task.attempt.form != "service"
    ):  # it was quicker than its end, and is lost all the same
        verdict = Outcome(key=task.key, reason=Reason.LOST, message=CHAOS)
    assert verdict is not None
    try:
        quiet = task.capture is not None and task.capture.empty
        out, err = (EMPTY, EMPTY) if quiet else _output(task, verdict, store)
        value = verdict.value
        if task.attempt.program and verdict.reason is Reason.FINISHED:
            value = _QUIET if quiet else _command_value(task, store)
    except (OSError, StoreError) as error:
        verdict = Outcome(key=task.key, reason=Reason.ERROR, message=f"its output cannot be kept: {error}")
        out, err, value = EMPTY, EMPTY, EMPTY
    usage = task.usage
    return msgspec.structs.replace(
        verdict,
        value=value,
        stdout=out,
        stderr=err,
        host=host,
        ended=utc_now(),
        usage=Usage(
            # A worker's own measure, where there is one: a busy agent hears late of a beginning.
            wall=max(task.ended_at - task.started_at if task.started_at else 0.0, verdict.usage.wall),
            user=usage.user,
            system=usage.system,
            memory=max(task.peak, usage.memory),
            disk=verdict.usage.disk or (size_on_disk(task.scratch, MOST_FILES) if task.scratch else 0),
        ),
    )


def add_usage(task: Task, used: Usage) -> None:
    """A process of the attempt has used this."""
    had = task.usage
    task.usage = Usage(user=had.user + used.user, system=had.system + used.system, memory=max(had.memory, used.memory))


def of_program(used: Usage) -> Usage:
    """What a program has used that the agent itself has started or adopted.

    The kernel begins its peak with that of the process which executed it (exec_mmap, setmax_mm_hiwater_rss): only what
    is beyond the agent's own says anything.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used if used.memory > own else Usage(user=used.user, system=used.system)


def _output(task: Task, verdict: Outcome, store: FileStore) -> tuple[Blob, Blob]:
    attempt = task.attempt
    if task.capture is None:
        return verdict.stdout, _with_epilogue(task, verdict.stderr, store)
    name = attempt.name or attempt.kind
    capture = task.capture
    return (
        capture.out.blob(store, layout.output_file(attempt.run, attempt.job, name, attempt.attempt, "stdout")),
        capture.err.blob(store, layout.output_file(attempt.run, attempt.job, name, attempt.attempt, "stderr")),
    )


def _with_epilogue(task: Task, err: Blob, store: FileStore) -> Blob:
    """What a pooled attempt has printed, and what was printed when that was done which it had deferred."""
    said = task.epilogue.err.read()[0] if task.epilogue is not None else b""
    if not said:
        return err
    attempt = task.attempt
    path = layout.output_file(
        attempt.run, attempt.job, attempt.name or attempt.kind, attempt.attempt, "deferred.stderr"
    )
    whole = make_blob(store, path, blob_bytes(store, err) + said, sync=False)
    return msgspec.structs.replace(whole, cut=err.cut)


def _command_value(task: Task, store: FileStore) -> Blob:
    assert task.capture is not None
    out, err = task.capture.out.read()[0], task.capture.err.read()[0]
    attempt = task.attempt
    path = layout.value_file(attempt.run, attempt.job, attempt.attempt)
    return make_blob(store, path, command_value(0, out, err))
