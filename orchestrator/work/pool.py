"""A warm worker: a fork of the template that runs many attempts, one after another.

It takes an attempt from its socket only when it is done with the one before, so that the agent can take back what is
still there. What an attempt leaves behind is sent before the next one begins: a worker that dies takes nothing with it
that was finished.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from orch.agent import inside, packets, processes
from orch.agent.captures import Stream
from orch.attempt import Attempt, Note, Outcome, Place, Reason
from orch.bus.events import EMPTY, Blob, Usage
from orch.errors import StoreError
from orch.store import layout
from orch.store.file import FileStore
from orch.work.execute import run_attempt


def work(feed: socket.socket, answers: socket.socket, place: Place, scratch: str, mark: Callable[[str], None]) -> None:
    """Run attempts until `feed` ends. `mark(key)`: carry the mark of that attempt, or of none.

    `scratch` is a directory that they use one after the other, as long as none of them starts a process: one that
    outlives its attempt may write there for a moment. A directory that may be kept is the attempt's own, too.
    """
    worker = _Worker(answers, place, scratch)
    while (packet := packets.receive(feed)) is not None:
        attempt = inside.decode_attempt(packet[0])
        mark(attempt.key)
        outcome = worker.run(attempt)
        mark("")  # first: when the news comes, nothing bears the mark any more
        worker.tell(outcome)


class _Worker:
    def __init__(self, answers: socket.socket, place: Place, scratch: str) -> None:
        self._answers = answers
        self._place = place
        self._scratch = scratch
        self._store = FileStore(place.store)
        self._streams = (Stream(1), Stream(2))
        self._shared = _used().memory  # with the template, mostly

    def run(self, attempt: Attempt) -> Outcome:
        began = time.monotonic()
        before = _used()
        lent = self._scratch if attempt.clean_scratch == "always" else ""
        outcome = run_attempt(attempt, self._place, self._emit, lent=lent)
        if _end_children() or resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt:
            self._scratch = ""
        outcome = self._with_output(outcome, attempt)
        after = _used()
        usage = Usage(
            wall=time.monotonic() - began,
            user=after.user - before.user,
            system=after.system - before.system,
            memory=max(0, after.memory - self._shared) if after.memory > before.memory else 0,
            disk=outcome.usage.disk,
        )
        return msgspec.structs.replace(outcome, usage=usage)

    def tell(self, outcome: Outcome) -> None:
        """Send what an attempt has left behind."""
        packets.send(self._answers, inside.encode(inside.Left(outcome)))

    def _emit(self, note: Note) -> None:
        packets.send(self._answers, inside.encode(inside.Said(note)))

    def _with_output(self, outcome: Outcome, attempt: Attempt) -> Outcome:
        """The outcome with what the attempt printed; the files are empty again afterwards."""
        with contextlib.suppress(OSError, ValueError):  # closed by the job, or the disk is full
            sys.stdout.flush()
            sys.stderr.flush()
        try:
            out, err = (
                self._blob(stream, attempt, name)
                for stream, name in zip(self._streams, ("stdout", "stderr"), strict=True)
            )
        except (OSError, StoreError) as error:
            message = f"the output of the attempt cannot be kept: {error}"
            return Outcome(key=attempt.key, reason=Reason.ERROR, message=message, host=outcome.host)
        if out is EMPTY and err is EMPTY:
            return outcome
        return msgspec.structs.replace(outcome, stdout=out, stderr=err)

    def _blob(self, stream: Stream, attempt: Attempt, name: str) -> Blob:
        if stream.size == 0:
            return EMPTY
        stream.limit = attempt.max_log
        path = layout.output_file(attempt.run, attempt.job, attempt.name or attempt.kind, attempt.attempt, name)
        blob = stream.blob(self._store, path)
        os.ftruncate(stream.file, 0)
        return blob


def _used() -> Usage:
    """What this process, and the children that it has waited for, have used so far. `memory`: the peak, all of it."""
    own, others = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Usage(
        user=own.ru_utime + others.ru_utime,
        system=own.ru_stime + others.ru_stime,
        memory=max(own.ru_maxrss, others.ru_maxrss) * 1024,
    )


def _end_children() -> bool:
    """End what a job has left running, before the next one begins; was there any? Orphans are the agent's to find."""
    had_some = False
    while True:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return had_some
        for pid in processes.children(os.getpid()):
            processes.kill_child(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        had_some = True
