"""Opening runs: a new one from its workflow, an old one from its log.

A new run is planned first: freezing the code, importing it and calling the workflow function are where a user's
mistakes show, and none of them leaves a run behind. Its whole first graph is then committed with one append.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from orch.adapters.contract import Adapter, RunInfo, Session, fits
from orch.attempt import Place, Plan
from orch.bundle import Bundle, Source, freeze
from orch.bus import events as ev
from orch.bus.identity import whoami
from orch.bus.jsonable import clean_text
from orch.bus.lock import RunLock
from orch.bus.log import Durability, Log
from orch.bus.reader import read
from orch.bus.topic import Topic
from orch.errors import NoSuchRun, ResourceError, RunBusy, RunExists, StoreError, UserError
from orch.history import fold_quickly, log_directory
from orch.leader.opened import Ended, Opened
from orch.leader.settings import Settings, from_log, to_log
from orch.planning import Planner, pack_arguments
from orch.sizes import parse_size
from orch.state.fold import apply
from orch.state.law import ACTIVE
from orch.state.model import State
from orch.state.react import impossible, planned
from orch.store import layout
from orch.store.file import FileStore
from orch.store.runs import check_run_id, new_run_id, newest_run

AdapterByName = Callable[[str], Adapter]

VERSION = "0.1.0"
MOST_SHOWN = 200
"""Characters of an argument that are kept for people."""


def make_settings(*, memory: str | float = 0, max_log: str | float, work_dir: str | Path = "", **rest: Any) -> Settings:
    """Settings from what a user gave: sizes as text, paths as they are. Raises `UserError`."""
    settings = Settings(
        memory=parse_size(memory),
        max_log=parse_size(max_log),
        work_dir=str(Path(work_dir).absolute()) if work_dir else "",
        **rest,
    )
    if settings.durability not in ("always", "relaxed"):
        raise UserError(f"durability is 'always' or 'relaxed', not {settings.durability!r}")
    if settings.cores < 0 or settings.retries < 0:
        raise UserError("cores and retries cannot be negative")
    return settings


# A new run -------------------------------------------------------------------------------------------------------


async def begin(
    store: FileStore,
    workflow: Any,
    settings: Settings,
    environment: dict[str, str],
    adapter: AdapterByName,
    *,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    argv: Sequence[str] | None,
    run_id: str | None,
    run_name: str,
    tags: Mapping[str, str],
) -> Opened:
    """Plan a workflow and commit its graph. On any error nothing of the run is left behind."""
    source = workflow if isinstance(workflow, Source) else Source.of(workflow, deploy=settings.deploy)
    run = check_run_id(run_id) if run_id else new_run_id()
    batch_system = adapter(settings.adapter)
    _prepare(store)
    bundle = freeze(source, store)
    with _reserved(store, run):
        info = run_info(run, 1, store, settings, environment)
        session, plan = await _plan(batch_system, info, store, bundle, arguments, argv)
        try:
            problem = impossible(plan.jobs, lambda wanted: fits(wanted, session.capacity()))
            if problem:
                raise ResourceError(problem)
            created = ev.Created(
                run=run,
                name=clean_text(run_name),
                tags={clean_text(key): clean_text(value) for key, value in tags.items()},
                source=clean_text(source.text),
                function=source.function,
                options=_shown(argv, arguments),
                bundle=bundle.digest,
                adapter=settings.adapter,
                cwd=clean_text(os.getcwd()),
                settings=to_log(settings),
            )
            warned = [ev.Warned(message=text) for text in bundle.warnings]
            return await _commit(store, run, settings, session, [created, *warned, *planned(plan, settings.retries)])
        except BaseException:
            with anyio.CancelScope(shield=True):
                await session.close()
            raise


def _prepare(store: FileStore) -> None:
    """Make the store, and see that it really works."""
    try:
        store.create()
        store.check()
    except StoreError as error:
        raise UserError(f"{error}; choose another store with --store") from error


@contextlib.contextmanager
def _reserved(store: FileStore, run: str) -> Any:
    """The run's directory, made exclusively; removed if the block fails."""
    directory = store.local_path(layout.run_dir(run))
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise RunExists(
            f"the store {store.root} has a run {run} already; carry it on with: orch replay {run} --restart"
        ) from None
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


async def _plan(
    adapter: Adapter,
    info: RunInfo,
    store: FileStore,
    bundle: Bundle,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    argv: Sequence[str] | None,
) -> tuple[Session, Plan]:
    """The workflow function's graph, and a session of the adapter: both take a while to start, so side by side."""
    sessions: list[Session] = []
    plans: list[Plan] = []
    scratch = store.local_path(layout.run_dir(info.run)) / "planning"
    place = Place(store=str(store.root), scratch=str(scratch), host=whoami().host)

    async def connect() -> None:
        sessions.append(await adapter.open(info))

    async def plan() -> None:
        directory = store.local_path(layout.bundle_dir(bundle.digest))
        async with Planner.open(directory, info.environment, os.getcwd()) as planner:
            if argv is not None:
                plans.append(await planner.plan(place, info.run, argv=argv))
            else:
                plans.append(await planner.plan(place, info.run, arguments=pack_arguments(*arguments)))

    try:
        with _one_error():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connect)
                await plan()
    except BaseException:
        with anyio.CancelScope(shield=True):
            for session in sessions:
                await session.close()
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sessions[0], plans[0]


@contextlib.contextmanager
def _one_error() -> Any:
    """The first error of a task group, instead of a group of errors."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from error.__cause__


def _shown(argv: Sequence[str] | None, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, str]:
    """The workflow's options, as text for people."""
    if argv is not None:
        return {"argv": clean_text(shlex.join(argv))} if argv else {}
    args, kwargs = arguments
    named = {**{str(place): value for place, value in enumerate(args)}, **kwargs}
    return {name: clean_text(repr(value)[:MOST_SHOWN]) for name, value in named.items()}


async def _commit(
    store: FileStore, run: str, settings: Settings, session: Session, events: list[ev.Event]
) -> Opened:
    """Create the log with the run's first events in it."""
    lock = RunLock(store.local_path(layout.lock_file(run)))
    lock.acquire()
    try:
        log = await open_log(store, run, settings)
        state = State()
        apply(state, log.opened)
        staged = log.stage(events)
        for event in staged:
            apply(state, event)
        await log.commit()
    except BaseException:
        lock.release()
        raise
    topic = Topic(store.local_path(layout.log_dir(run)), last_seq=log.last_seq)
    return Opened(run, state, log, lock, session, settings, topic)


async def open_log(store: FileStore, run: str, settings: Settings) -> Log:
    """Begin an epoch of the run's log."""
    durability: Durability = "relaxed" if settings.durability == "relaxed" else "always"
    return await Log.open(
        store.local_path(layout.log_dir(run)), run=run, identity=whoami(VERSION), durability=durability
    )


def run_info(run: str, epoch: int, store: FileStore, settings: Settings, environment: dict[str, str]) -> RunInfo:
    """What the adapter has to know."""
    return RunInfo(
        run=run,
        epoch=epoch,
        store=str(store.root),
        environment=environment,
        cores=settings.cores,
        memory=settings.memory,
        work_dir=settings.work_dir,
    )


# An old run ------------------------------------------------------------------------------------------------------


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
    """Open a run from its log: to carry it on, or (with `wish`) to pursue a wish that no live leader can hear."""
    run = run_id or newest_run(store)
    directory = log_directory(store.root, run)
    state = fold_quickly(read(directory))
    if state.created is None or state.planned is None:
        raise NoSuchRun(f"run {run} was interrupted before its first jobs were recorded; start it anew with orch run")
    if state.outcome == "succeeded" or (wish and state.outcome):
        return _ended(run, directory, state)
    lock = RunLock(store.local_path(layout.lock_file(run)))
    try:
        lock.acquire()
    except RunBusy:
        if not take_over:
            raise
    try:
        return await _reopen(store, run, state, lock, environment, adapter, wish=wish, by=by, overrides=overrides)
    except BaseException:
        lock.release()
        raise


def _ended(run: str, directory: Path, state: State) -> Ended:
    topic = Topic(directory, last_seq=state.seq)
    topic.close()
    return Ended(run, state, topic, lambda seq: next(iter(read(directory, from_seq=seq, to_seq=seq))))


async def _reopen(
    store: FileStore,
    run: str,
    state: State,
    lock: RunLock,
    environment: dict[str, str],
    adapter: AdapterByName,
    *,
    wish: str,
    by: str,
    overrides: Mapping[str, Any],
) -> Opened | Ended:
    assert state.created is not None
    settings = from_log(state.created.settings).override(**overrides)
    before: list[ev.Event] = [] if wish else _recoded(store, state, settings)
    log = await open_log(store, run, settings)
    for event in log.history():
        if event.seq > state.seq:
            apply(state, event)
    apply(state, log.opened)
    if wish:
        before.append(ev.Requested(what=wish, by=by))
    elif state.outcome or not state.cancelling:  # an unfinished cancel is pursued first
        before.append(ev.Restarted(by=by))
    for event in log.stage(before):
        apply(state, event)
    await log.commit()
    directory = store.local_path(layout.log_dir(run))
    if wish in ("pause", "resume"):
        for event in log.stage([ev.Closed(reason="left")]):
            apply(state, event)
        await log.commit()
        await log.close()
        lock.release()
        return _ended(run, directory, state)
    try:
        session = await adapter(settings.adapter).open(run_info(run, log.epoch, store, settings, environment))
        if not wish:
            _still_possible(state, session)
    except BaseException:
        await log.close("left")
        raise
    return Opened(run, state, log, lock, session, settings, Topic(directory, last_seq=log.last_seq))


def _recoded(store: FileStore, state: State, settings: Settings) -> list[ev.Event]:
    """The code is read again: a user who has mended it wants the mended one. Where it is gone, the stored one serves."""
    assert state.created is not None
    created = state.created
    source = Source.again(created.source, created.function, deploy=settings.deploy, cwd=created.cwd)
    if source is None or (source.path and not (Path(created.cwd) / source.path).exists()):
        return [ev.Warned(message=f"the workflow's code ({state.created.source}) is gone: the stored copy is used")]
    bundle = freeze(source, store)
    if bundle.digest == state.bundle:
        return []
    return [ev.Recoded(bundle=bundle.digest, previous=state.bundle)]


def _still_possible(state: State, session: Session) -> None:
    """A run can be carried on where there is less than where it began."""
    capacity = session.capacity()
    for row in state.jobs.values():
        if row.state in ACTIVE:
            short = fits(row.resources, capacity)
            if short:
                raise ResourceError(f"job {row.label} asks for more than can ever be given here: {short}")


