"""`orch tail`: a run's events, a line each."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from orch.bus.codec import Unknown, type_name
from orch.bus.events import Added, Closed, Ended, Event
from orch.bus.reader import read
from orch.cli.common import collect_again, find_log, is_alone, say
from orch.cli.eventline import event_json, event_line
from orch.cli.parser import STORE, LogLevel, RunId, Store, application, command, natural
from orch.cli.usage import UsageError, did_you_mean
from orch.errors import NoSuchJob

app = application()


@command(app, "tail", "[OPTIONS] [RUN]")
def tail(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="go on as events come, until the run has ended")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="each event as JSON, a line each")] = False,
    start: Annotated[
        int, typer.Option("--from", parser=natural, metavar="SEQ", show_default=False, help="begin at event SEQ")
    ] = 1,
    types: Annotated[
        str,
        typer.Option("--type", metavar="GLOB", show_default=False, help="only events of these types, such as 'r*'"),
    ] = "",
    jobs: Annotated[
        str,
        typer.Option(
            "--job", metavar="GLOB", show_default=False, help="only events of jobs with this id, kind or name"
        ),
    ] = "",
) -> int:
    """The events of a run (default: the newest), a line each."""
    directory, _ = find_log(store, run)
    _check_types(types, directory)
    printer = Printer(start=start, types=types, jobs=jobs, as_json=json)
    if following:
        _follow(directory, printer)
    else:
        printer.print(read(directory, from_seq=printer.first))
    printer.note()
    return 0


def _check_types(types: str, directory: Path) -> None:
    """Raises `UsageError` for a glob that matches no type that we know, and none that is in the log."""
    known = sorted(type_name(one) for one in Event.__subclasses__() if one is not Unknown)
    if not types or fnmatch.filter(known, types):
        return
    if not any(fnmatch.fnmatchcase(type_name(event), types) for event in read(directory)):
        near = did_you_mean(types.strip("*"), known)
        raise UsageError(f"--type {types!r} matches no type of event{near}; the types are {', '.join(known)}")


_GIVE_WAY = 19
"""How nice a process is that follows: a hundred of them must not slow the leader that they watch."""


class Printer:
    """Chooses events and prints them; remembers how jobs are called."""

    def __init__(self, *, start: int = 1, types: str = "", jobs: str = "", as_json: bool = False) -> None:
        self._start = start
        self._types = types
        self._jobs = jobs
        self._as_json = as_json
        self._names: dict[int, tuple[str, str]] = {}
        self._last = 0
        self._met = self._known = False

    @property
    def first(self) -> int:
        """The first event that must be read: names of jobs stand in events of old."""
        return self._start if self._as_json and not self._jobs else 1

    def print(self, events: Iterable[Event]) -> None:
        """Print those that are wanted."""
        for event in events:
            self._last = event.seq
            if isinstance(event, Added):
                self._names[event.job] = (event.kind, event.name)
                self._known = self._known or self._is_meant(event.job)
            if event.seq >= self._start and self._wanted(event):
                sys.stdout.write((event_json(event) if self._as_json else event_line(event, self._label(event))) + "\n")

    def note(self) -> None:
        """Say on stderr why nothing was printed, where that may be an error. Raises `NoSuchJob`: it is one."""
        if self._jobs and not self._known:
            raise NoSuchJob(f"the run has no job with an id, kind or name like {self._jobs!r}")
        if self._start > self._last:
            say(f"orch: the log has {self._last} events; there is no event {self._start} to begin at")
        elif self._jobs and not self._met:
            say(f"orch: no such event from {self._start} on is of a job with an id, kind or name like {self._jobs!r}")

    def _wanted(self, event: Event) -> bool:
        if self._types and not fnmatch.fnmatchcase(type_name(event), self._types):
            return False
        return not self._jobs or self._is_of_job(event)

    def _is_of_job(self, event: Event) -> bool:
        job = job_of(event)
        found = job != 0 and self._is_meant(job)
        self._met = self._met or found
        return found

    def _is_meant(self, job: int) -> bool:
        texts = (str(job), *self._names.get(job, ()))
        return any(fnmatch.fnmatchcase(text, self._jobs) for text in texts if text)

    def _label(self, event: Event) -> str:
        job = job_of(event)
        kind, name = self._names.get(job, ("", ""))
        return f"{name or kind} [{job}]".lstrip() if job else ""


def job_of(event: Event) -> int:
    """The job that the event is about; 0: the run itself."""
    if isinstance(event, Unknown):
        try:
            return msgspec.json.decode(event.raw, type=_WithJob).job
        except (ValueError, RecursionError):
            return 0
    job = getattr(event, "job", 0)
    return job if isinstance(job, int) else 0


class _WithJob(msgspec.Struct):
    job: int = 0


def _follow(directory: Path, printer: Printer) -> None:
    """Print what there is and what comes, until the run has ended, or was stopped."""
    from orch.bus.tail import follow_here

    if is_alone():
        os.nice(_GIVE_WAY)
    collect_again()
    last: list[Event] = []

    def idle() -> bool:
        """All that there is has been seen: only then does an end that was seen count."""
        return bool(last) and is_over(last[0], directory)

    for events in follow_here(directory, printer.first, idle=idle):
        printer.print(events)
        sys.stdout.flush()
        last[:] = events[-1:]


def is_over(last: Event, directory: Path) -> bool:
    """Is the run over, if `last` is the last event of its log?

    A run whose leader has left without a word, or on SIGTERM, is not: somebody may carry it on, and its jobs go on.
    """
    from orch.cli.summary import leader_alive

    if isinstance(last, Closed):
        return last.reason in ("ended", "stopped")
    return isinstance(last, Ended) and not leader_alive(directory)
