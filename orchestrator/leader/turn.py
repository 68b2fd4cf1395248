"""What a leader takes in in one turn, and what comes of it."""

from __future__ import annotations

import dataclasses

from orch.adapters.contract import Update
from orch.bus import events as ev
from orch.leader.calls import Reuse
from orch.leader.requests import Request


@dataclasses.dataclass
class Turn:
    """What one turn has staged, and what it will do once that is durable."""

    events: list[ev.Event] = dataclasses.field(default_factory=list)
    submit: list[ev.JobId] = dataclasses.field(default_factory=list)
    acknowledge: list[str] = dataclasses.field(default_factory=list)
    cancel: list[str] = dataclasses.field(default_factory=list)
    requests: list[Request] = dataclasses.field(default_factory=list)
    stop: list[str] = dataclasses.field(default_factory=list)
    look_up: list[tuple[ev.JobId, ev.Call]] = dataclasses.field(default_factory=list)
    remove: list[str] = dataclasses.field(default_factory=list)
    limit: bool = False
    ask: bool = False
    last: bool = False


@dataclasses.dataclass(frozen=True)
class Concern:
    """Something that the user should know, from whoever works for the leader."""

    text: str


@dataclasses.dataclass(frozen=True)
class Found:
    """What the call cache knows of a job's call."""

    job: ev.JobId
    reuse: Reuse | None


Item = Update | Request | Found | Concern
"""What comes to a leader."""
