"""`orch tail`: a run's events, a line each."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from orch.bus.codec import Unknown, type_name
from orch.bus.events import Added, Closed, Ended, Event
from orch.bus.reader import read
from orch.cli.common import collect_again, find_log
from orch.cli.eventline import event_json, event_line
from orch.cli.parser import STORE, LogLevel, RunId, Store, application, command, natural

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
    printer = Printer(start=start, types=types, jobs=jobs, as_json=json)
    if following:
        _follow(directory, printer)
    else:
        printer.print(read(directory, from_seq=printer.first))
    return 0


class Printer:
    """Chooses events and prints them; remembers how jobs are called."""

    def __init__(self, *, start: int = 1, types: str = "", jobs: str = "", as_json: bool = False) -> None:
        self._start = start
        self._types = types
        self._jobs = jobs
        self._as_json = as_json
        self._names: dict[int, tuple[str, str]] = {}

    @property
    def first(self) -> int:
        """The first event that must be read: names of jobs stand in events of old."""
        return self._start if self._as_json and not self._jobs else 1

    def print(self, events: Iterable[Event]) -> None:
        """Print those that are wanted."""
        for event in events:
            if isinstance(event, Added):
                self._names[event.job] = (event.kind, event.name)
            if event.seq >= self._start and self._wanted(event):
                sys.stdout.write((event_json(event) if self._as_json else event_line(event, self._label(event))) + "\n")

    def _wanted(self, event: Event) -> bool:
        if self._types and not fnmatch.fnmatchcase(type_name(event), self._types):
            return False
        return not self._jobs or self._is_of_job(event)

    def _is_of_job(self, event: Event) -> bool:
        job = job_of(event)
        if not job:
            return False
        return any(fnmatch.fnmatchcase(text, self._jobs) for text in (str(job), *self._names.get(job, ())) if text)

    def _label(self, event: Event) -> str:
        job = job_of(event)
        kind, name = self._names.get(job, ("", ""))
        return f"{name or kind} [{job}]".lstrip() if job else ""


def job_of(event: Event) -> int:
    """The job that the event is about; 0: the run itself."""
    if isinstance(event, Unknown):
        try:
            return msgspec.json.decode(event.raw, type=_WithJob).job
        except msgspec.DecodeError:
            return 0
    job = getattr(event, "job", 0)
    return job if isinstance(job, int) else 0


class _WithJob(msgspec.Struct):
    job: int = 0


class _Over(Exception):
    """All has been seen, and the run is over."""


def _follow(directory: Path, printer: Printer) -> None:
    import anyio

    collect_again()
    anyio.run(follow_to_end, directory, printer)


async def follow_to_end(directory: Path, printer: Printer) -> None:
    """Print what there is and what comes, until the run has ended, or was stopped."""
    import anyio

    from orch.bus.tail import follow

    last: list[Event] = []

    async def nothing_new(seconds: float) -> None:
        """Called when all that there is has been seen: only then does an end that was seen count."""
        if last and is_over(last[0], directory):
            raise _Over
        await anyio.sleep(seconds)

    try:
        async for events in follow(directory, printer.first, sleep=nothing_new):
            printer.print(events)
            sys.stdout.flush()
            last[:] = events[-1:]
    except _Over:
        return


def is_over(last: Event, directory: Path) -> bool:
    """Is the run over, if `last` is the last event of its log?

    A run whose leader has left without a word, or on SIGTERM, is not: somebody may carry it on, and its jobs go on.
    """
    from orch.cli.summary import leader_alive

    if isinstance(last, Closed):
        return last.reason in ("ended", "stopped")
    return isinstance(last, Ended) and not leader_alive(directory)
