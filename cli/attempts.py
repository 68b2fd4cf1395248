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
    its survey has ended well; it took the value of an earlier call. `asked`: what its next attempt asks for.
    """

    tried: dict[int, Tried] = {}
    rewound: list[ev.Rewound] = []
    surveyed: ev.Surveyed | None = None
    reused: ev.Reused | None = None
    asked: ev.Resources | None = None


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
            found.asked = getattr(event, "resources", None) or found.asked
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
            _end(found, event.attempt, event.time, what, _consequence(event, found.asked))
        case ev.Failed():
            _end(found, event.attempt, event.time, event.reason, "it is not tried again")  # why has been said
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


def _consequence(event: ev.Retrying, asked: ev.Resources | None) -> str:
    """What the end of the attempt cost, and what was changed for the next, which else would ask for `asked`."""
    parts = ["it cost a try" if event.charged else "it cost no try"]
    if event.wait:
        parts.append(f"tried again after {format_duration(event.wait)}")
    if event.resources not in (None, asked):
        assert event.resources is not None
        parts.append(f"asks for {asks(event.resources)} from then on")
    return ", ".join(parts)


def spared(row: Job) -> str:
    """Which option keeps a job that has failed, and has tries left, from being tried again; empty if none does.

    Of an exception the log has no bases: what names a base may have decided, and is said to.
    """
    if row.charged > row.retries or not (row.retry.never or row.retry.on):
        return ""
    from orch.attempt import Outcome, Reason
    from orch.state.policy import matches

    raised = row.message.partition(":")[0].rpartition(".")[2]
    classes = [rule.removeprefix("error:") for rule in (*row.retry.never, *row.retry.on)]
    errors = [name for name in classes if name.rpartition(".")[2] == raised]
    outcome = Outcome(row.key, Reason(row.reason), exit_code=row.exit_code, message=row.message, errors=errors)
    named = [rule for rule in row.retry.never if matches(rule, outcome)]
    if named:
        return f"no_retry_on has {', '.join(named)}"
    bases = [rule for rule in row.retry.never if rule.startswith("error:")]
    only = row.retry.on and not any(matches(rule, outcome) for rule in row.retry.on)
    parts = [f"no_retry_on has {', '.join(bases)}"] if bases else []
    return ", or ".join([*parts, *([f"retry_on has only {', '.join(row.retry.on)}"] if only else [])])


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
