"""`orch stop`, `pause`, `resume` and `cancel`, and what `orch set` does.

A live leader hears the wish through the store. Where none is alive, this process takes the run's lock and pursues the
wish itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from orch.api import Orchestrator, Run
from orch.bus.events import Adjusted, Closed, Ended, Event, Requested
from orch.bus.tail import follow
from orch.cli.common import collect_again, find_run, find_store, say, who
from orch.cli.parser import STORE, LogLevel, RunId, Store, application, command
from orch.cli.summary import leader_alive
from orch.errors import RunBusy
from orch.hints import store_option
from orch.history import fold_quickly
from orch.leader.requests import make_request
from orch.state.model import State
from orch.store.file import FileStore
from orch.store.layout import log_dir

_DONE = {
    "stop": "is stopped; to carry it on: orch replay {run} --restart{store}",
    "cancel": "is cancelled",
    "pause": "is paused; to go on: orch resume {run}{store}",
    "resume": "goes on",
    "set": "has new limits",
}
LONG = 5.0
"""Seconds after which is said what a wish waits for that this process sees to."""

PATIENCE = 1.0
"""Seconds after which it is said that we wait."""


USAGE = "[OPTIONS] [RUN]"

app = application()


@command(app, "stop", USAGE)
def stop(run: RunId = None, *, store: Store = STORE, _level: LogLevel = "warning") -> int:
    """End what runs, uncharged; the run can be carried on with orch replay --restart. RUN defaults to the newest."""
    return pursue("stop", store, run)


@command(app, "pause", USAGE)
def pause(run: RunId = None, *, store: Store = STORE, _level: LogLevel = "warning") -> int:
    """Start no more jobs of a run; those that run go on. RUN defaults to the newest."""
    return pursue("pause", store, run)


@command(app, "resume", USAGE)
def resume(run: RunId = None, *, store: Store = STORE, _level: LogLevel = "warning") -> int:
    """Start jobs again after orch pause. RUN defaults to the newest."""
    return pursue("resume", store, run)


@command(app, "cancel", USAGE)
def cancel(run: RunId = None, *, store: Store = STORE, _level: LogLevel = "warning") -> int:
    """End a run and all that it has running. RUN defaults to the newest."""
    return pursue("cancel", store, run)


def pursue(what: str, locator: str, name: str | None, settings: Mapping[str, Any] | None = None) -> int:
    """Wish, and wait until it is so. `settings`: those that "set" is to change."""
    store = find_store(locator)
    run = find_run(store, name)
    collect_again()
    return anyio.run(_Wish(store, run, what, settings or {}).pursue)


def cancel_quietly(store: FileStore, run: str) -> None:
    """Cancel a run that nobody leads, and wait until nothing of it runs. Raises `RunBusy`."""

    async def whole() -> None:
        async with Orchestrator(store.root) as orchestrator:
            handle = await orchestrator.resume(run, wish="cancel", by=who())
            await handle.wait()

    anyio.run(whole)


class _Unheard(Exception):
    """The leader has gone without hearing the wish."""


class _Wish:
    """One wish for one run."""

    def __init__(self, store: FileStore, run: str, what: str, settings: Mapping[str, Any]) -> None:
        self._store = store
        self._run = run
        self._what = what
        self._settings = settings
        self._directory = store.local_path(log_dir(run))

    async def pursue(self) -> int:
        """Until it is confirmed."""
        while True:
            state = fold_quickly(self._directory)
            if state.outcome:
                say(f"run {self._run} has ended already: {state.outcome}")
                return 0
            if self._what == "stop" and state.closed == "stopped":
                self._say("")
                return 0
            try:
                if leader_alive(self._directory):
                    outcome = await self._ask(state)
                else:
                    outcome = await self._do()
            except (_Unheard, RunBusy):  # a leader has gone, or come, meanwhile
                continue
            self._say(outcome)
            return 0

    def _say(self, outcome: str) -> None:
        if outcome and not (outcome == "cancelled" and self._what == "cancel"):
            say(f"run {self._run} has ended before that: {outcome}")
            return
        text = _DONE[self._what].format(run=self._run, store=store_option(self._store))
        say(f"run {self._run} {text}")
        if self._what in ("pause", "resume", "set") and not leader_alive(self._directory):
            lifted = ", and carrying it on lifts the pause" if self._what == "pause" else ""
            say(f"nobody leads it{lifted}: orch replay {self._run} --restart{store_option(self._store)}")

    # A live leader ------------------------------------------------------------------------------------------------

    async def _ask(self, state: State) -> str:
        """Write the wish, and follow the log until it is confirmed. Gives the run's outcome if it has ended."""
        request = make_request(self._store.root, self._run, self._what, state.epoch, who(), self._settings)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._explain)
                outcome = await self._confirmed(state.seq)
                tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            request.unlink(missing_ok=True)
        return outcome

    async def _explain(self) -> None:
        await anyio.sleep(PATIENCE)
        say(f"waiting until the leader of run {self._run} has confirmed it …")

    async def _confirmed(self, seq: int) -> str:
        async for events in follow(self._directory, seq + 1, sleep=_Watch(self._directory)):
            for event in events:
                outcome = confirms(self._what, event)
                if outcome is not None:
                    return outcome
        raise _Unheard

    # No leader ----------------------------------------------------------------------------------------------------

    async def _do(self) -> str:
        """Open the run only to pursue the wish. Raises `RunBusy` if a leader has come."""
        say(f"run {self._run} has no leader: this process sees to it")
        async with Orchestrator(self._store.root) as orchestrator:
            run = await orchestrator.resume(self._run, wish=self._what, by=who(), **self._settings)
            await self._wait(run)
            return run.state.outcome

    async def _wait(self, run: Run) -> None:
        """Until it has come to that. Who has to wait is told for what; who leaves, what is left."""
        try:
            with anyio.move_on_after(LONG):
                await run.wait()
                return
            say(f"{_left(run)}: waiting until that has ended …")
            await run.wait()
        except anyio.get_cancelled_exc_class():
            say(_left(run))
            raise


def _left(run: Run) -> str:
    """What of it may still run, and what was last said to be wrong."""
    live = len(run.state.live)
    wrong = next(reversed(run.state.warnings), "")
    return f"{live} attempt{'' if live == 1 else 's'} may still run{f' ({wrong})' if wrong else ''}"


class _Watch:
    """Sleeps for `follow`, which does so when all has been read; looks every second whether there is a leader still."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._slept = 0.0

    async def __call__(self, seconds: float) -> None:
        """Sleep. Raises `_Unheard` if the leader is gone, and no other has come."""
        await anyio.sleep(seconds)
        self._slept += seconds
        if self._slept >= 1.0:
            self._slept = 0.0
            if leader_alive(self._directory) is False:
                raise _Unheard


def confirms(what: str, event: Event) -> str | None:
    """Is the wish fulfilled with this event? Then the run's outcome, empty if it has none."""
    if isinstance(event, Ended):
        return event.outcome
    if what == "stop":
        return "" if isinstance(event, Closed) and event.reason == "stopped" else None
    if what in ("pause", "resume"):
        return "" if isinstance(event, Requested) and event.what == what else None
    if what == "set":
        return "" if isinstance(event, Adjusted) else None
    return None
