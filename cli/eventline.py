"""An event as a line: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from orch.bus import events as ev
from orch.bus.codec import Unknown, event_of, type_name
from orch.cli.render import clock_time, one_line
from orch.sizes import format_duration, format_size

_ENVELOPE = {"seq", "time", "epoch", "group", "v"}
_LONGEST = 200
"""Characters of the details, at most."""


def event_json(event: ev.Event) -> str:
    """The event's line in the log, but for what only guards the file: crc, sum, and the mark of a group's end."""
    if isinstance(event, Unknown):
        return (event_of(event.raw) + b"}").decode("utf-8", "replace")
    body = msgspec.to_builtins(event)
    first = {"seq": event.seq, "time": event.time, "epoch": event.epoch, "group": event.group, "type": body.pop("type")}
    rest = {name: value for name, value in body.items() if name not in first}
    return msgspec.json.encode(first | rest).decode()


def event_line(event: ev.Event, label: str) -> str:
    """`HH:MM:SS.mmm  seq  type  job  details`."""
    text = f"{clock_time(event.time)}  {event.seq:>6}  {type_name(event):<10}  {one_line(label):<20}  {details(event)}"
    return text.rstrip()


def details(event: ev.Event) -> str:
    """What there is to say of the event besides its type and job, on one line."""
    show = _DETAILS.get(type(event), _fields)
    return one_line(show(event), _LONGEST)


def _fields(event: Any) -> str:
    if isinstance(event, Unknown):
        return "not known to this version of orch"
    body = msgspec.to_builtins(event)
    return " ".join(f"{k}={v}" for k, v in body.items() if k not in _ENVELOPE and k not in ("type", "job") and v != "")


def _opened(event: ev.Opened) -> str:
    return f"epoch {event.epoch}: process {event.pid} on {event.host}" + (f" of {event.user}" if event.user else "")


def _created(event: ev.Created) -> str:
    options = " ".join(f"--{name}={value}" for name, value in event.options.items())
    return " ".join(filter(None, [event.run, event.name, event.source, options]))


def _planned(event: ev.Planned) -> str:
    return f"{event.count} jobs"


def _added(event: ev.Added) -> str:
    parts = [event.kind]
    if event.by:
        parts.append(f"by job {event.by}")
    if event.serves >= 0:
        parts.append(f"service of {event.serves or 'the workflow'}")
    relations = {"needs": event.needs, "child of": event.parents, "follows": event.follows}
    parts += [f"{what} {_numbers(jobs)}" for what, jobs in relations.items() if jobs]
    return " ".join(parts)


def _numbers(jobs: list[int]) -> str:
    return ", ".join(map(str, jobs[:8])) + (f" and {len(jobs) - 8} more" if len(jobs) > 8 else "")


def _submitted(event: ev.Submitted) -> str:
    return f"attempt {event.attempt}" + (f" as {event.id}" if event.id else "")


def _running(event: ev.Running) -> str:
    where = f" on {event.host}" if event.host else ""
    return f"attempt {event.attempt}{where}" + (f", process {event.pid}" if event.pid else "")


def _succeeded(event: ev.Succeeded) -> str:
    parts = [f"attempt {event.attempt}", format_duration(event.usage.wall)]
    if event.usage.memory:
        parts.append(format_size(event.usage.memory))
    if event.added:
        parts.append(f"{event.added} new jobs")
    if event.files:
        parts.append(f"{len(event.files)} files")
    return ", ".join(parts)


def _bad_end(event: ev.Retrying | ev.Failed) -> str:
    text = f"attempt {event.attempt}, {event.reason}" + (f": {event.message}" if event.message else "")
    if isinstance(event, ev.Failed):
        return text
    text += " (a try used up)" if event.charged else ""
    return text + (f", again in {format_duration(event.wait)}" if event.wait else "")


def _submitting(event: ev.Submitting) -> str:
    what = ", a survey" if event.survey else ""
    return f"attempt {event.attempt}{what}" + (f", in the place of job {event.after}" if event.after else "")


def _surveyed(event: ev.Surveyed) -> str:
    wanted = event.resources
    parts = [f"attempt {event.attempt}", f"{wanted.cores:g} cores"]
    if wanted.memory:
        parts.append(f"{format_size(wanted.memory)} of memory")
    if wanted.disk:
        parts.append(f"{format_size(wanted.disk)} of disk")
    if event.call is not None:
        parts.append(f"call {event.call.digest.removeprefix('sha256:')[:12]}")
    return ", ".join(parts)


def _rewound(event: ev.Rewound) -> str:
    again = f" in {format_duration(event.wait)}" if event.wait else ""
    return f"job {event.failed} failed: runs again{again}"


def _cancelled(event: ev.Cancelled) -> str:
    return f"attempt {event.attempt}" if event.attempt else "was not running"


def _requested(event: ev.Requested) -> str:
    return event.what + (f" by {event.by}" if event.by else "")


_DETAILS: dict[type[ev.Event], Callable[[Any], str]] = {
    ev.Opened: _opened,
    ev.Created: _created,
    ev.Planned: _planned,
    ev.Added: _added,
    ev.Submitting: _submitting,
    ev.Submitted: _submitted,
    ev.Running: _running,
    ev.Succeeded: _succeeded,
    ev.Retrying: _bad_end,
    ev.Failed: _bad_end,
    ev.Cancelled: _cancelled,
    ev.Serving: lambda event: f"attempt {event.attempt} is up",
    ev.Surveyed: _surveyed,
    ev.Reused: lambda event: f"has the value of job {event.source} of run {event.run}",
    ev.Rewound: _rewound,
    ev.Removed: lambda event: f"{len(event.files)} files",
    ev.Abandoned: lambda event: f"{event.why}: {event.message}",
    ev.Adjusted: lambda event: ", ".join(f"{name}={value}" for name, value in event.settings.items()),
    ev.Requested: _requested,
    ev.Annotated: lambda event: f"{event.name} = {event.value!r}",
    ev.Logged: lambda event: f"{event.stream or event.level}: {event.text}",
    ev.Warned: lambda event: event.message,
    ev.Ended: lambda event: event.outcome,
    ev.Closed: lambda event: event.reason,
    ev.Restarted: lambda event: f"by {event.by}" if event.by else "",
    ev.Recoded: lambda event: f"{event.previous[:12]} → {event.bundle[:12]}",
}
