"""Progress of a run on stderr: live on a terminal, a plain line now and then elsewhere.

Looks at counts and indexes of the state, never at all jobs, and at most four times a second.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator

import anyio
import anyio.to_thread

from orch.api import Run
from orch.cli.common import say
from orch.cli.render import one_line
from orch.cli.summary import wants
from orch.clock import system_clock
from orch.sizes import format_duration
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.status import explain, seconds_since

S = JobState

REFRESH = 0.25
"""Seconds between looks on a terminal. The first look is later: a short run needs no display."""

FIRST = 0.6
PLAIN = 10.0
"""Seconds between plain lines, at least."""

STILL = 5.0
"""Seconds without any event after which it is said what is short."""

MOST_RUNNING = 5
MOST_FAILED = 3


class Progress:
    """Shows one run until it is cancelled. `plain`: the terminal is the jobs' own."""

    def __init__(self, run: Run, *, quiet: bool = False, plain: bool = False) -> None:
        self._run = run
        self._quiet = quiet
        self._plainly = plain or not is_terminal()
        self._began = time.monotonic()
        self._warned = 0
        self._said = ""

    async def show(self) -> None:
        """Show progress for ever."""
        if self._quiet:
            return
        try:
            await (self._plain() if self._plainly else self._live())
        finally:
            self._warn()

    async def _plain(self) -> None:
        while True:
            self._warn()
            await anyio.sleep(PLAIN)
            line = counts(self._run.state)
            if line != self._said:
                self._said = line
                say(f"orch: {line}")

    async def _live(self) -> None:
        from orch.cli.live import display

        await anyio.sleep(FIRST)
        with await anyio.to_thread.run_sync(display) as screen:
            while True:
                screen.show(self.lines(short=await self._short()), share(self._run.state))
                await anyio.sleep(REFRESH)

    def _warn(self) -> None:
        """Say what is new among the run's warnings."""
        warnings = self._run.state.warnings
        for message in warnings[self._warned :]:
            say(f"orch: warning: {message}")
        self._warned = len(warnings)

    async def _short(self) -> str:
        """What the batch system says is short, if nothing moves and it says so in time."""
        row = stalled(self._run.state, system_clock())
        text = ""
        if row is not None:
            with anyio.move_on_after(REFRESH):
                text = await self._run.describe(row.id)
        return text

    def lines(self, now: str = "", short: str = "") -> list[str]:
        """What there is to show at this moment. `short`: what the batch system says is short."""
        state = self._run.state
        now = now or system_clock()
        elapsed = format_duration(time.monotonic() - self._began)
        below = [*running(state, now), *stuck(state, now, short), *failures(state), *self._newest()]
        return [f"{counts(state)}, {elapsed}", *map(one_line, below)]  # names and messages may hold anything

    def _newest(self) -> Iterator[str]:
        for message in self._run.state.warnings[-1:]:
            yield f"  warning  {message}"


def is_terminal() -> bool:
    """Can stderr be drawn upon?"""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def total(state: State) -> int:
    """Jobs so far that count: more may be added while the run goes on, and what was dropped is made anew."""
    return len(state.jobs) - state.counts[S.ADDED] - state.counts[S.DROPPED]


def share(state: State) -> float:
    """What part of the jobs known so far is over."""
    count = state.counts
    over = count[S.DONE] + count[S.SUCCEEDED] + count[S.FAILED] + count[S.CANCELLED] + count[S.SKIPPED]
    return over / max(1, total(state))


def counts(state: State, *, over: bool = False) -> str:
    """As "12 of 40 jobs done, 4 running, 24 waiting". `over`: nobody leads it any more, so nothing is under way."""
    count = state.counts
    waiting = count[S.WAITING] + count[S.READY] + count[S.QUEUED] + count[S.SUBMITTING]
    parts = [f"{count[S.DONE]} of {total(state)} jobs done"]
    parts += [f"{number} {name}" for number, name in [(count[S.RUNNING], "running"), (waiting, "waiting")] if number]
    bad = [S.FAILED, S.SKIPPED, S.CANCELLED]
    parts += [f"{count[one]} {one}" for one in bad if count[one]]
    if over:
        return ", ".join(parts)
    if state.paused:
        parts.append("paused")
    if state.abandoned:
        parts.append("ending")
    if state.cancelling or state.stopping:
        parts.append("cancelling" if state.cancelling else "stopping")
    return ", ".join(parts)


def running(state: State, now: str) -> Iterator[str]:
    """The attempts that have run longest."""
    rows = [row for row in (state.jobs[job] for job in state.live) if row.state is S.RUNNING]
    rows.sort(key=lambda row: row.times[S.RUNNING])
    for row in rows[:MOST_RUNNING]:
        since = seconds_since(row.times[S.RUNNING], now)
        yield f"  running  {row.label} {format_duration(since)}"
    if len(rows) > MOST_RUNNING:
        yield f"           and {len(rows) - MOST_RUNNING} more"


def failures(state: State) -> Iterator[str]:
    """The newest failures."""
    for job in itertools.islice(reversed(state.failed), MOST_FAILED):
        row = state.jobs[job]
        yield f"  failed   {row.label} {explain(state, row)}"


def stalled(state: State, now: str) -> Job | None:
    """There is work, nothing runs, and nothing has happened for a while: the job that is next."""
    if state.counts[S.RUNNING] or not state.active or not state.time or seconds_since(state.time, now) < STILL:
        return None
    first = next(iter(state.live), None) or next(iter(state.ready), None)
    return None if first is None else state.jobs[first]


def stuck(state: State, now: str, short: str = "") -> Iterator[str]:
    """What is short when nothing moves."""
    row = stalled(state, now)
    if row is None:
        return
    if state.paused:
        yield "  the run is paused: orch resume"
    else:
        yield f"  nothing runs: {row.label} wants {wants(row)}; {short or explain(state, row)} (orch why {row.id})"


def summary_line(run: Run, seconds: float) -> str:
    """The one line after a run."""
    state = run.state
    outcome = state.outcome or ("stopped" if state.closed == "stopped" else "left")
    return f"orch: run {run.id} {outcome}: {counts(state, over=True)}, {format_duration(seconds)}"
