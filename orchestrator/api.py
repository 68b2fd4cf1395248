"""The public, async API: `Orchestrator` runs many runs in one event loop, `Run` is the handle of one.

`run` is the blocking form, for scripts, threads and notebooks.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio
import anyio.abc
import anyio.to_thread

from orch.adapters.contract import IN_PROCESS, Adapter
from orch.bus import events as ev
from orch.bus.topic import Topic
from orch.errors import NoSuchJob, OrchError, RunCancelled, RunFailed, RunStopped, UserError
from orch.leader.requests import SET, Request, drop_request, read_requests
from orch.leader.settings import Choices, Limits, Settings, from_log, make_limits, make_settings
from orch.state.law import OVER, JobState
from orch.state.model import State
from orch.state.status import JobStatus, explain, job_status
from orch.store.file import FileStore
from orch.store.locator import open_store

if TYPE_CHECKING:
    from orch.inspection import Graph
    from orch.planner_pool import Planners
    from orch.planning import OpenPlanner

_OUTSIDE = "an Orchestrator is used inside 'async with'"

REQUEST_POLL = 0.5
"""Seconds between looks at the store's requests."""


class Orchestrator:
    """Runs workflows against one store.

    `store` a path or locator; `adapter` the batch system's name, or an object with the adapter contract; `set_env` is
    added to the environment of attempts and never stored; `settings` are those of `orch.leader.settings.Settings`,
    which says what each means: sizes and durations may be text, limits may be "unlimited". Files and environment
    variables that the command reads settings from do not count here. `tell` is called with a line for people while a
    batch system keeps a run from beginning. Raises `UserError`.

    Leaving the `async with` block ends the leaders that are still busy and leaves their live attempts alone: the runs
    can be carried on with `resume`.
    """

    def __init__(
        self,
        store: str | Path = ".orch",
        adapter: str | Adapter = "local",
        *,
        set_env: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
        **settings: Unpack[Choices],
    ) -> None:
        self.store: FileStore = open_store(store)
        self._adapter_given = adapter
        self._tell = tell
        name = adapter if isinstance(adapter, str) else adapter.name
        if name == IN_PROCESS:  # breakpoints are in the files themselves, and not in copies
            settings.setdefault("deploy", False)
        self._settings = make_settings(adapter=name, set_env=list(set_env or ()), **settings)
        self._environment = {**os.environ, **(set_env or {})}
        self._adapters: dict[str, Adapter] = {}
        self._runs: dict[str, Run] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._planners: Planners | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._watch_requests)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        tasks, self._tasks, self._planners = self._tasks, None, None
        tasks.cancel_scope.cancel()
        try:
            await tasks.__aexit__(None, None, None)  # the block's own error goes its way, without a group around it
        finally:
            with anyio.CancelScope(shield=True):
                for adapter in self._adapters.values():
                    await adapter.close()

    async def start(
        self,
        workflow: Any,
        /,
        *args: Any,
        run_id: str | None = None,
        run_name: str = "",
        tags: Mapping[str, str] | None = None,
        argv: Sequence[str] | None = None,
        **params: Any,
    ) -> Run:
        """Plan a workflow, commit its graph, and begin to run it.

        `workflow` is a function decorated with `orch.workflow`, or an `orch.bundle.Source`. Its parameters come as
        `args` and `params`, or as command-line tokens in `argv`. Returns once the run exists durably. Raises
        `UserError` (nothing is left behind then), `RunExists`, `SystemTrouble`.
        """
        from orch.leader.begin import begin

        opened = await begin(
            self.store,
            workflow,
            self._settings,
            self._environment,
            self._adapter,
            arguments=(args, params),
            argv=argv,
            run_id=run_id,
            run_name=run_name,
            tags=dict(tags or {}),
            planner=self._open_planner(),
            tell=self._tell,
        )
        return self._launch(Run(opened, self))

    async def resume(
        self,
        run_id: str | None = None,
        *,
        take_over: bool = False,
        wish: str = "",
        by: str = "",
        **overrides: Any,
    ) -> Run:
        """Carry a run on (default: the newest of the store): adopt what is live, give failed jobs fresh tries.

        A run that has succeeded gives its stored result again. `overrides` are settings of this class that replace
        those in the log. With `wish` (stop, cancel, pause, resume) no job is revived: the run is opened only to
        pursue the wish. Raises `NoSuchRun`, `RunBusy` (unless `take_over`), `LogDamaged`.
        """
        from orch.leader.carry_on import carry_on

        opened = await carry_on(
            self.store,
            run_id,
            self._environment,
            self._adapter,
            take_over=take_over,
            wish=wish,
            by=by,
            overrides=overrides,
        )
        return self._launch(Run(opened, self))

    def _open_planner(self) -> OpenPlanner:
        from orch.planner_process import is_early

        if self._tasks is None:
            raise OrchError(_OUTSIDE)
        if is_early():  # this is the command, which plans once
            from orch.planning import open_planner

            return open_planner
        if self._planners is None:
            from orch.planner_pool import Planners

            self._planners = Planners(self._tasks)
        return self._planners.open

    def _launch(self, run: Run) -> Run:
        if self._tasks is None:
            raise OrchError(_OUTSIDE)
        self._runs[run.id] = run
        self._tasks.start_soon(self._lead, run)
        return run

    async def _lead(self, run: Run) -> None:
        try:
            await run._lead()  # noqa: SLF001 - the two classes are one unit
        finally:
            self._runs.pop(run.id, None)

    def _adapter(self, name: str) -> Adapter:
        if name not in self._adapters:
            if not isinstance(self._adapter_given, str):
                self._adapters[name] = self._adapter_given
            else:
                from orch.adapters.registry import make_adapter

                self._adapters[name] = make_adapter(name)
        return self._adapters[name]

    async def _watch_requests(self) -> None:
        """Hand wishes found in the store to the leaders they are meant for."""
        heard: set[str] = set()
        while True:
            found = await anyio.to_thread.run_sync(read_requests, self.store.root)
            for request in found:
                run = self._runs.get(request.run)
                if run is None or request.file in heard:
                    continue
                heard.add(request.file)
                run._hear(request)  # noqa: SLF001 - the two classes are one unit
            heard &= {request.file for request in found}
            await anyio.sleep(REQUEST_POLL)


class Run:
    """A run that this process leads, or one that has ended."""

    def __init__(self, opened: Any, orchestrator: Orchestrator) -> None:
        self._opened = opened
        self._orchestrator = orchestrator
        self._over = anyio.Event()
        self._moved = anyio.Event()
        self._error: BaseException | None = None
        self.id: str = opened.run
        if opened.leader is None:
            self._over.set()

    @property
    def state(self) -> State:
        """The fold of the run's log up to now; to be read only."""
        state: State = self._opened.state
        return state

    def __repr__(self) -> str:
        return f"<run {self.id}: {self.state.outcome or 'not over'}>"

    @property
    def graph(self) -> Graph:
        """How the jobs hang together, as it stands now: predecessors, children, follow-ons, services, an order."""
        from orch.inspection import Graph

        return Graph(self.state)

    @property
    def out(self) -> Path | None:
        """Where the files of the result are to be exported to, as it was said when the run began."""
        created = self.state.created
        found = from_log(created.settings).out if created else ""
        return Path(found) if found else None

    @property
    def settings(self) -> Settings:
        """Those that this leader began with; of a run that has ended, those that it was begun with."""
        if self._opened.leader is not None:
            found: Settings = self._opened.settings
            return found
        created = self.state.created
        return from_log(created.settings) if created else Settings()

    async def _lead(self) -> None:
        if self._opened.leader is None:
            return
        try:
            await self._opened.lead(self._published)
        except Exception as error:  # noqa: BLE001 - handed on by `result` and `wait`; other runs go on
            self._error = _root_cause(error)
        finally:
            self._over.set()
            self._moved.set()

    def _published(self, _events: list[ev.Event]) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def _hear(self, request: Request) -> None:
        leader = self._opened.leader
        if leader is None or request.epoch != self.state.epoch:
            drop_request(request)
        else:
            leader.request(request)

    async def events(self, start: str | int = "start") -> AsyncIterator[ev.Event]:
        """Committed events: from the "start", from "now" on, or from a sequence number; ends with the leader.

        A slow reader loses nothing.
        """
        first = {"start": 1, "now": self.state.seq + 1}.get(start, start) if isinstance(start, str) else start
        topic: Topic = self._opened.topic
        async for event in topic.subscribe(int(first)):
            yield event

    async def wait(self, jobs: Sequence[str | int] | None = None, timeout: float | None = None) -> None:
        """Until the run is over, or until these jobs are. `timeout` in seconds: raises TimeoutError.

        Raises what ended the leader, if that was an error (`SystemTrouble`, `Fenced` …).
        """
        with anyio.fail_after(timeout):
            if jobs is None:
                await self._over.wait()
            else:
                wanted = [self._row(job).id for job in jobs]
                while not self._over.is_set() and any(self.state.jobs.look(job).state not in OVER for job in wanted):
                    await self._moved.wait()
        if self._error is not None:
            raise self._error

    async def result(self) -> Any:
        """The workflow's value. Raises `RunFailed`, `RunCancelled`, `RunStopped`, or what ended the leader."""
        await self.wait()
        self.check_outcome()
        return self.load()

    def load(self, *, stand_ins: bool = False) -> Any:
        """The value of a run that has succeeded. Reads, and does not wait.

        With `stand_ins`, objects of classes that only the workflow's code defines are replaced by ones that show
        their contents, and that code is not imported.
        """
        from orch.values import load_result

        return load_result(self._orchestrator.store, self.state, self._opened.supply, stand_ins=stand_ins)

    def check_outcome(self) -> None:
        """Raise `RunFailed`, `RunCancelled` or `RunStopped` unless the run has succeeded."""
        from orch.leader.failures import failures
        from orch.leader.report import failure_report

        match self.state.outcome:
            case "succeeded":
                return
            case "failed":
                parts = (self._orchestrator.store, self.state, self._opened.fetch)
                raise RunFailed(failure_report(*parts), failures(*parts))
            case "cancelled":
                raise RunCancelled(f"run {self.id} was cancelled; to carry it on: {self._carry_on}")
            case _:
                raise RunStopped(f"run {self.id} was stopped; to carry it on: {self._carry_on}")

    @property
    def _carry_on(self) -> str:
        from orch.hints import store_option

        return f"orch replay {self.id} --restart{store_option(self._orchestrator.store)}"

    async def cancel(self) -> None:
        """End the run and everything that it has running; returns once that is confirmed."""
        await self._wish("cancel")
        await self._over.wait()

    async def stop(self) -> None:
        """End live attempts, uncharged, and leave; the run can be carried on. Returns once that is done."""
        await self._wish("stop")
        await self._over.wait()

    async def pause(self) -> None:
        """Start no more jobs; those that run go on."""
        await self._wish("pause")

    async def resume(self) -> None:
        """Start jobs again after `pause`."""
        await self._wish("resume")

    async def set(self, **limits: Unpack[Limits]) -> None:
        """Change limits while the run goes on, for what is started from now on. Raises `UserError`."""
        await self._wish(SET, make_limits(**limits))

    async def _wish(self, what: str, settings: dict[str, Any] | None = None) -> None:
        leader = self._opened.leader
        if leader is None or self._over.is_set():
            return
        by = f"process {os.getpid()}"
        leader.request(Request(run=self.id, what=what, epoch=self.state.epoch, by=by, settings=settings or {}))

    def _row(self, job: str | int) -> Any:
        try:
            return self.state.jobs[int(job)]
        except (KeyError, ValueError):
            raise NoSuchJob(f"run {self.id} has no job {job!r}") from None

    def status(self, job_id: str | int) -> JobStatus:
        """Where a job stands."""
        return job_status(self.state, self._row(job_id))

    async def describe(self, job_id: str | int) -> str:
        """Why a job does not run yet: as its batch system sees it, else as the run does. One line, or empty."""
        row = self._row(job_id)
        handed = row.state in (JobState.SUBMITTING, JobState.QUEUED) and not self._over.is_set()
        said: str = await self._opened.describe(row.key) if handed else ""
        return said or explain(self.state, row)

    def jobs(self, state: str | None = None) -> list[JobStatus]:
        """All jobs, or those in one state."""
        rows = list(self.state.jobs.values())
        return [job_status(self.state, row) for row in rows if row.state != "added" and state in (None, row.state)]


def _root_cause(error: BaseException) -> BaseException:
    """The one error inside a task group's bundle of it; the first, where several tasks found out the same at once."""
    ours = (OrchError, BaseExceptionGroup)
    strange = isinstance(error, BaseExceptionGroup) and error.subgroup(lambda each: not isinstance(each, ours))
    while isinstance(error, BaseExceptionGroup) and (not strange or len(error.exceptions) == 1):
        error = error.exceptions[0]
    return error


def run(
    workflow: Any,
    /,
    *args: Any,
    store: str | Path = ".orch",
    run_id: str | None = None,
    run_name: str = "",
    tags: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    **params: Any,
) -> Any:
    """Run a workflow and give its value; blocks. `settings` are those of `Orchestrator`. Raises as `Run.result`.

    Works in scripts, in any thread, and inside a running event loop (notebooks), where it uses a thread of its own.
    """

    async def whole() -> Any:
        async with Orchestrator(store, **(settings or {})) as orchestrator:
            handle = await orchestrator.start(workflow, *args, run_id=run_id, run_name=run_name, tags=tags, **params)
            return await handle.result()

    return _blocking(whole)


def _blocking(main: Callable[[], Any]) -> Any:
    import asyncio
    import threading

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.run(main)
    box: list[Any] = []

    def target() -> None:
        try:
            box.append((True, anyio.run(main)))
        except BaseException as error:  # noqa: BLE001 - carried over to the calling thread
            box.append((False, error))

    thread = threading.Thread(target=target, name="orch.run")
    thread.start()
    thread.join()
    fine, value = box[0]
    if fine:
        return value
    raise value


__all__ = ["Orchestrator", "Run", "Settings", "UserError", "run"]
