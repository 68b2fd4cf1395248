"""A new run, from its workflow.

It is planned first: freezing the code, importing it and calling the workflow function are where a user's mistakes
show, and none of them leaves a run behind. Its whole first graph is then committed: what counts is its last event.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from orch.adapters.contract import IN_PROCESS, Adapter, RunInfo, Session, fits
from orch.attempt import Place, Plan
from orch.bundle import Bundle, Source, freeze
from orch.bus import events as ev
from orch.bus.identity import whoami
from orch.bus.jsonable import clean_text
from orch.bus.lease import RENEW
from orch.bus.machine import HERE, Machine
from orch.errors import LogTrouble, ResourceError, RunBusy, StoreError, UserError
from orch.leader.opened import MakeCache, Opened
from orch.leader.opening import AdapterByName, Lock, cache_of, open_log, run_info
from orch.leader.reserve import reserved
from orch.leader.settings import Settings, rules, to_log
from orch.planning import OpenPlanner, open_planner, pack_arguments
from orch.state.fold import fold
from orch.state.model import WORKFLOW
from orch.state.react import each_added, impossible, planned
from orch.store import layout
from orch.store.file import FileStore
from orch.store.private import exposed
from orch.store.runs import check_run_id, new_run_id

MOST_SHOWN = 200
"""Characters of an argument that are kept for people."""


async def begin(  # noqa: PLR0913 - what `Orchestrator.start` takes, and what it has
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
    planner: OpenPlanner = open_planner,
    tell: Callable[[str], None] = lambda _: None,
) -> Opened:
    """Plan a workflow and commit its graph. On any error nothing of the run is left behind.

    `tell` says a line to the user, who may have to wait for the batch system before the run begins.
    """
    source = workflow if isinstance(workflow, Source) else Source.of(workflow, deploy=settings.deploy)
    run = check_run_id(run_id) if run_id else new_run_id()
    batch_system = adapter(settings.adapter)
    _prepare(store)
    bundle = freeze(source, store)
    with reserved(store, run) as lock:
        info = run_info(run, 1, store, settings, environment)
        session, plan = await _plan(
            batch_system, info, store, bundle, arguments, argv, planner=planner, lock=lock, tell=tell
        )
        try:
            jobs = each_added(plan.jobs, 1, WORKFLOW, 0, rules(settings))
            problem = impossible(jobs, lambda wanted: fits(wanted, session.capacity()))
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
            warned = [ev.Warned(message=text) for text in (*bundle.warnings, exposed(str(store.root))) if text]
            log_directory = store.local_path(layout.log_dir(run))
            first = itertools.chain([created, *warned], planned(plan, rules(settings)))
            if not lock.renew():
                raise RunBusy(f"the run {run} has been taken over by another leader while it was planned")
            return await commit_first(
                run,
                log_directory,
                lock,
                session,
                settings=settings,
                events=first,
                cache=cache_of(store, run),
                summary=True,
            )
        except BaseException:  # cancelled, too: a session that is open is closed
            with anyio.CancelScope(shield=True):
                await session.close()
            raise


def _prepare(store: FileStore) -> None:
    """Make the store, and see that it really works."""
    try:
        store.create()
    except StoreError as error:
        raise UserError(f"{error}; choose another store with --store") from error
    try:
        store.check()
    except StoreError as error:  # it ends with what can be done about that
        raise UserError(f"{error}, or choose another store with --store") from error


async def _plan(
    adapter: Adapter,
    info: RunInfo,
    store: FileStore,
    bundle: Bundle,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    argv: Sequence[str] | None,
    *,
    planner: OpenPlanner,
    lock: Lock,
    tell: Callable[[str], None],
) -> tuple[Session, Plan]:
    """The workflow function's graph, and a session of the adapter: both take a while to start, so side by side."""
    sessions: list[Session] = []
    plans: list[Plan] = []
    scratch = store.local_path(layout.run_dir(info.run)) / "planning"
    place = Place(store=str(store.root), scratch=str(scratch), host=whoami().host)

    async def connect() -> None:
        sessions.append(await adapter.open(info))
        probe = getattr(adapter, "probe", None)
        if probe is not None:
            await probe(info, tell)

    async def plan() -> None:
        directory = store.local_path(layout.bundle_dir(bundle.digest))
        async with planner(directory, info.environment, os.getcwd(), here=adapter.name == IN_PROCESS) as made:
            if argv is not None:
                plans.append(await made.plan(place, info.run, argv=argv))
            else:
                plans.append(await made.plan(place, info.run, arguments=pack_arguments(*arguments)))

    try:
        with _one_error():
            async with anyio.create_task_group() as keeping:
                keeping.start_soon(_keep, lock)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(connect)
                    await plan()
                keeping.cancel_scope.cancel()
    except BaseException:  # cancelled, too: a session that is open is closed
        with anyio.CancelScope(shield=True):
            for session in sessions:
                await session.close()
        raise
    finally:
        _remove(scratch)
    return sessions[0], plans[0]


def _remove(scratch: Path) -> None:
    """Mostly nothing is left in it."""
    try:
        scratch.rmdir()
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)


async def _keep(lock: Lock) -> None:
    """Say that we are alive. A lease that could not be renewed now may be the next time."""
    while True:
        await HERE.sleep(RENEW)
        with contextlib.suppress(LogTrouble):
            await HERE.offload(lock.renew)


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
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


async def commit_first(
    run: str,
    directory: Path,
    lock: Lock,
    session: Session,
    *,
    settings: Settings,
    events: Iterable[ev.Event],
    machine: Machine = HERE,
    cache: MakeCache | None = None,
    summary: bool = False,
) -> Opened:
    """Create the log in `directory`, with the run's first events in it.

    There may be a million of them: they are taken one after the other, and written in several groups. What a leader
    leaves that dies in between is a run without a plan, which nobody carries on.
    """
    lock.acquire()
    try:
        log = await open_log(directory, run, settings, machine)
        try:
            state = fold([log.opened])
            async for group in log.append_many(events):
                fold(group, state)
        except BaseException:  # cancelled, too: an open log is closed in order
            with anyio.CancelScope(shield=True):
                await log.close()
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
