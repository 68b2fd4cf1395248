"""What became of each attempt at a job: lines for `orch why`, read off the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from orch.bus import events as ev
from orch.bus.reader import read
from orch.cli.render import date_time
from orch.cli.summary import asks
from orch.sizes import format_duration
from orch.state.model import Job

MOST = 20
"""Attempts that are shown: the last ones."""


class Tried(msgspec.Struct):
    """One attempt. `times` are those of its intention and its end; the latter is empty while it is live."""

    number: int
    begun: str = ""
    ended: str = ""
    host: str = ""
    what: str = "is live"
    then: str = ""


class History(msgspec.Struct):
    """What the log says of one job.

    `rewound`: times at which it was a checkpoint that ran again, and the job that had failed. `surveyed`, `reused`:
    its survey has ended well; it took the value of an earlier call.
    """

    tried: dict[int, Tried] = {}
    rewound: list[ev.Rewound] = []
    surveyed: ev.Surveyed | None = None
    reused: ev.Reused | None = None


def history(directory: Path, row: Job) -> History:
    """Of the job, from the event that added it on. Nothing of one whose row says it all: the log may be long."""
    if row.attempt < 2 and not (row.checkpoint or row.cache):
        return History()
    return told(read(directory, from_seq=row.added_seq), row.id)


def told(events: Iterable[ev.Event], job: int) -> History:
    """What these events say of the job."""
    found = History()
    for event in events:
        if getattr(event, "job", None) == job:
            _note(found, event)
    return found


def _note(found: History, event: ev.Event) -> None:
    match event:
        case ev.Submitting():
            found.tried[event.attempt] = Tried(event.attempt, begun=event.time)
        case ev.Running():
            _of(found, event.attempt).host = event.host
        case ev.Succeeded():
            _end(found, event.attempt, event.time, "succeeded")
        case ev.Surveyed():
            found.surveyed = event
            _end(found, event.attempt, event.time, "a survey: asks for " + asks(event.resources))
        case ev.Retrying():
            what = f"{event.reason}: {event.message}" if event.message else event.reason
            _end(found, event.attempt, event.time, what, _consequence(event))
        case ev.Failed():
            _end(found, event.attempt, event.time, event.reason, "no try is left")  # the message is why, and said
        case ev.Cancelled() if event.attempt:
            _end(found, event.attempt, event.time, "cancelled")
        case ev.Rewound():
            found.rewound.append(event)
        case ev.Reused():
            found.reused = event


def _of(found: History, attempt: int) -> Tried:
    return found.tried.setdefault(attempt, Tried(attempt))


def _end(found: History, attempt: int, time: str, what: str, then: str = "") -> None:
    one = _of(found, attempt)
    one.ended, one.what, one.then = time, what, then


def _consequence(event: ev.Retrying) -> str:
    """What the end of the attempt cost, and what was changed for the next."""
    parts = ["it cost a try" if event.charged else "it cost no try"]
    if event.wait:
        parts.append(f"tried again after {format_duration(event.wait)}")
    if event.resources is not None:
        parts.append(f"asks for {asks(event.resources)} from then on")
    return ", ".join(parts)


def attempt_lines(found: History, state_jobs: dict[int, Job]) -> Iterator[str]:
    """A line for each attempt, and for each time that it ran again as a checkpoint."""
    tried = sorted(found.tried.values(), key=lambda one: one.number)
    if len(tried) > MOST:
        yield f"  … {len(tried) - MOST} earlier attempts"
    entries = [(one.ended or one.begun, _line(one)) for one in tried[-MOST:]]
    for event in found.rewound:
        failed = state_jobs.get(event.failed)
        name = failed.label if failed else str(event.failed)
        entries.append((event.time, f"  {date_time(event.time)}  runs again as a checkpoint, since {name} failed"))
    yield from (line for _, line in sorted(entries, key=lambda entry: entry[0]))


def _line(one: Tried) -> str:
    where = f" on {one.host}" if one.host else ""
    then = f"; {one.then}" if one.then else ""
    return f"  {date_time(one.ended or one.begun)}  attempt {one.number}{where}: {one.what}{then}"
