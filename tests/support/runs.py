"""Whole runs through the public API, and what their logs say afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import anyio

import orch
from orch.bus import events as ev
from orch.bus.reader import read
from orch.testing.states import check as check_state
from support.command import log_directory

E = TypeVar("E", bound=ev.Event)


@dataclasses.dataclass
class Ran:
    """A run that is over: its value, or why it has none."""

    store: Path
    run: str
    value: Any = None
    error: orch.OrchError | None = None

    @property
    def events(self) -> list[ev.Event]:
        """All of the log."""
        return list(read(log_directory(self.store, self.run)))

    @property
    def names(self) -> dict[int, str]:
        """What each job is called."""
        return {event.job: event.name or event.kind for event in self.all(ev.Added)}

    def all(self, kind: type[E], job: str = "") -> list[E]:
        """The events of one kind, of the jobs of that name or of all."""
        return select(self.events, kind, job)

    def states(self) -> dict[str, str]:
        """Where each job stands, by name; of jobs with the same name, the last."""
        return {job.name: job.state for job in orch.replay(self.store, self.run).values()}


def select(events: list[ev.Event], kind: type[E], job: str = "") -> list[E]:
    """The events of one kind, of the jobs of that name or of all."""
    named = {event.job for event in events if isinstance(event, ev.Added) and job in (event.name, event.kind)}
    return [event for event in events if isinstance(event, kind) and (not job or getattr(event, "job", 0) in named)]


async def run(store: Path, workflow: Any, *, adapter: Any = "local", timeout: float = 90, **given: Any) -> Ran:
    """Run a workflow to its end, with `settings` of the orchestrator and the workflow's own parameters."""
    settings = {"retry_backoff": 0, **given.pop("settings", {})}
    with anyio.fail_after(timeout):
        async with orch.Orchestrator(store, adapter, **settings) as orchestrator:
            handle = await orchestrator.start(workflow, **given)
            found = Ran(store, handle.id)
            with contextlib.suppress(orch.RunFailed, orch.RunCancelled, orch.RunStopped):
                try:
                    found.value = await handle.result()
                except orch.OrchError as error:
                    found.error = error
                    raise
            check_state(handle.state)
    return found


async def until(handle: orch.Run, wanted: Any, timeout: float = 60) -> list[ev.Event]:
    """The events of a run that goes on, up to and with the first that is `wanted`."""
    seen: list[ev.Event] = []
    with anyio.fail_after(timeout):
        async for event in handle.events():
            seen.append(event)
            if wanted(event):
                return seen
    raise AssertionError(f"the run ended first: {seen[-3:]}")
