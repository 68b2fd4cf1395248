"""An old run, from its log: to carry it on, or to pursue a wish that no live leader can hear."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from orch.adapters.contract import Session, fits
from orch.bundle import Source, freeze
from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.log import Log
from orch.bus.machine import HERE, Machine
from orch.bus.reader import point_behind
from orch.bus.topic import Topic
from orch.errors import NoSuchRun, ResourceError, UserError
from orch.history import EventReader, log_directory
from orch.leader.opened import Ended, MakeCache, Opened
from orch.leader.opening import AdapterByName, Lock, cache_of, open_log, run_info
from orch.leader.requests import SET
from orch.leader.settings import ADJUSTABLE, Settings, from_log, make_limits
from orch.leader.snapshots import folded
from orch.leader.summarizing import Summarizer
from orch.state.fold import apply
from orch.state.law import ACTIVE
from orch.state.model import State
from orch.store import layout
from orch.store.file import FileStore
from orch.store.private import exposed
from orch.store.runs import newest_run

RECORD_ONLY = ("pause", "resume", SET)
"""Wishes that are pursued by being recorded."""


async def carry_on(
    store: FileStore,
    run_id: str | None,
    environment: dict[str, str],
    adapter: AdapterByName,
    *,
    take_over: bool,
    wish: str,
    by: str,
    overrides: Mapping[str, Any],
) -> Opened | Ended:
    """Open a run from its log.

    Raises `UserError` if it is a copy of another one, `NoSuchRun`, `RunBusy`, `LogDamaged`, `ResourceError`,
    `SystemTrouble`.
    """
    run = run_id or newest_run(store)
    directory = log_directory(store.root, run)
    state = folded(directory, run)
    if state.created is None or state.planned is None:
        raise NoSuchRun(f"run {run} was interrupted before its first jobs were recorded; start it anew with orch run")
    _must_be_the_original(run, state.created.run)
    if state.outcome == "succeeded" or (wish and state.outcome):
        return _ended(run, directory, state)
    store.check()
    settings = from_log({**state.created.settings, **state.adjusted}).override(**overrides)
    news = [] if wish else [*_recoded(store, state, settings), *_exposed(store)]
    limits = {name: value for name, value in overrides.items() if name in ADJUSTABLE and value is not None}
    if limits:  # what was set before must not come back
        news.append(ev.Adjusted(settings=make_limits(**limits), by=by))
    batch_system = adapter(settings.adapter)

    async def connect(epoch: int) -> Session:
        return await batch_system.open(run_info(run, epoch, store, settings, environment))

    lock = RunLock(store.local_path(layout.lock_file(run)))
    return await reopen(
        directory,
        lock,
        state,
        connect,
        settings,
        news=news,
        take_over=take_over,
        wish=wish,
        by=by,
        cache=cache_of(store, run),
        summary=True,
    )


def _must_be_the_original(run: str, original: str) -> None:
    if run != original:
        raise UserError(
            f"run {run} is a copy of run {original}, and would take its jobs and files for its own: look at it "
            f"(orch status {run}, orch replay {run}); what can be carried on is run {original}"
        )


async def reopen(  # noqa: PLR0913 - all that opening has to be told
    directory: Path,
    lock: Lock,
    state: State,
    connect: Callable[[int], Awaitable[Session]],
    settings: Settings,
    *,
    news: Sequence[ev.Event] = (),
    take_over: bool = False,
    wish: str = "",
    by: str = "",
    machine: Machine = HERE,
    cache: MakeCache | None = None,
    summary: bool = False,
) -> Opened | Ended:
    """Begin an epoch of the log in `directory`, whose fold so far is `state`; `news` are said first.

    `connect` gives a session of the adapter, for the new epoch.
    """
    assert state.created is not None
    run = state.created.run
    lock.acquire(take_over=take_over)
    try:
        trusted = point_behind(directory, state.seq, machine.files)  # read, and verified, when it was folded
        log = await open_log(directory, run, settings, machine, trusted)
        try:
            before = state.closed
            await _catch_up(log, state, news, wish, by)
            if state.outcome == "succeeded" or wish in RECORD_ONLY:
                await _leave(log, state, before)
                if summary:
                    Summarizer(log, state).last()
                lock.release()
                return _ended(run, directory, state)
            session = await connect(log.epoch)
            if not wish:
                await _check_possible(state, session)
        except BaseException:  # cancelled, too: an open log is closed in order
            with anyio.CancelScope(shield=True):
                await log.close("left")
            raise
    except BaseException:  # cancelled, too: whoever comes next finds the lock free
        lock.release()
        raise
    return Opened(
        run,
        state,
        log,
        lock=lock,
        session=session,
        settings=settings,
        machine=machine,
        cache=cache,
        summary=summary,
    )


async def _catch_up(log: Log, state: State, news: Sequence[ev.Event], wish: str, by: str) -> None:
    """Fold what has come since `state` was read, and record what this leader has come for."""
    for event in log.history(log.trusted):
        if event.seq > state.seq:
            apply(state, event)
    apply(state, log.opened)
    if state.outcome == "succeeded":
        return
    first = list(news)
    if wish == SET:
        pass  # it is among the news
    elif wish:
        first.append(ev.Requested(what=wish, by=by))
    elif state.outcome or not state.cancelling:  # an unfinished cancel is pursued first
        first.append(ev.Restarted(by=by))
    for event in log.stage(first):
        apply(state, event)
    await log.commit()


async def _leave(log: Log, state: State, before: str) -> None:
    """A run that was stopped `before` still is."""
    reason = "ended" if state.outcome else before if before == "stopped" else "left"
    for event in log.stage([ev.Closed(reason=reason)]):
        apply(state, event)
    await log.close()


def _ended(run: str, directory: Path, state: State) -> Ended:
    topic = Topic(directory, last_seq=state.seq)
    topic.close()
    return Ended(run, state, topic, EventReader(directory))


def _recoded(store: FileStore, state: State, settings: Settings) -> list[ev.Event]:
    """The code is read again: who has mended it wants the mended one. Where it is gone, the stored copy serves."""
    assert state.created is not None
    created = state.created
    source = Source.again(created.source, created.function, deploy=settings.deploy, cwd=created.cwd)
    if source is None:  # it came from a session that is no more
        return []
    if source.path and not (Path(created.cwd) / source.path).exists():
        return [ev.Warned(message=f"the workflow's code ({created.source}) is gone: the stored copy is used")]
    bundle = freeze(source, store)
    if bundle.digest == state.bundle:
        return []
    return [ev.Recoded(bundle=bundle.digest, previous=state.bundle)]


def _exposed(store: FileStore) -> list[ev.Event]:
    problem = exposed(str(store.root))
    return [ev.Warned(message=problem)] if problem else []


async def _check_possible(state: State, session: Session) -> None:
    """A run can be carried on where there is less than where it began. Raises `ResourceError`."""
    capacity, left = session.capacity(), state.active
    for row in map(state.jobs.look, reversed(state.jobs.keys())):  # what is left to do are the last ones, mostly
        if not left:
            break
        if row.state not in ACTIVE:
            continue
        left -= 1
        if short := fits(row.resources, capacity):
            with anyio.CancelScope(shield=True):
                await session.close()
            raise ResourceError(f"job {row.label} asks for more than can ever be given here: {short}")
