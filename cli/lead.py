"""Leading a run from the shell: what `orch run` and `orch replay --restart` have in common.

Signals: the first Ctrl-C stops the run in order (live attempts are ended uncharged); a second one, SIGTERM or a closed
terminal leave at once, and live attempts go on, to be adopted by whoever carries the run on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from orch.adapters.contract import IN_PROCESS
from orch.api import Orchestrator, Run
from orch.cli.common import collect_again, complain, say
from orch.cli.progress import Progress, summary_line
from orch.errors import OrchError, RunFailed
from orch.hints import store_option
from orch.store.file import FileStore

Begin = Callable[[Orchestrator], Awaitable[Run]]


class Face:
    """How a run shows itself on this terminal."""

    def __init__(
        self, store: FileStore, *, quiet: bool = False, out: str | None = None, level: str = "warning", log: str = ""
    ) -> None:
        """As given on the command line. Raises `UserError` if `out` is nothing that can be exported to."""
        self.store = store
        self.quiet = quiet
        self.out = self._directory(out)
        self.level = level
        self.log = log
        self.names_files = False  # has it printed where files are in the store?

    @staticmethod
    def _directory(out: str | None) -> Path | None:
        if out is None:
            return None
        from orch.cli.export import out_directory

        return out_directory(out)

    def say(self, text: str) -> None:
        """A line, unless nothing is wanted."""
        if not self.quiet:
            say(text)

    def tell(self, text: str) -> None:
        """What keeps a run from beginning."""
        self.say(f"orch: {text}")

    def print(self, run: Run) -> None:
        """The result, exported where that is wanted."""
        from orch.cli.result import print_result

        print_result(run.load(stand_ins=True), self._place(self.out or run.out))

    def _place(self, out: Path | None) -> Callable[[Any], str]:
        if out is None:
            return self._in_store
        from orch.cli.export import Exporter

        return Exporter(self.store, out)

    def _in_store(self, ref: Any) -> str:
        self.names_files = True
        return str(self.store.local_path(ref.path))


class _Ending:
    """What has become of it. `left`: the exit code, if this process leaves before the run is over."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.stopping = False
        self.left = 0
        self.error: Exception | None = None


def lead(store: FileStore, settings: Mapping[str, Any], begin: Begin, face: Face) -> int:
    """Begin a run with `begin`, lead it to its end, print its result. Gives the exit code, or raises what ended it."""
    if face.log or face.level in ("info", "debug"):
        from orch.cli.diagnostics import configure

        configure(face.level, face.log)
    began = time.monotonic()
    ending = _Ending()
    anyio.run(_lead, store, settings, begin, face, ending)
    if ending.left:
        face.say(_farewell(ending.run, ending.left, store))
        return ending.left
    if ending.run is not None:
        face.say(summary_line(ending.run, time.monotonic() - began))
    if ending.error is not None:
        error = _shorter(ending.error) if ending.run is not None and not face.quiet else ending.error
        if ending.run is None or not _to_clean(ending.run, settings) or not isinstance(error, OrchError):
            raise error
        complain(error)
        _clean(face, ending.run, settings)
        return error.exit_code
    assert ending.run is not None
    face.print(ending.run)
    if not _clean(face, ending.run, settings):
        _hint(face, ending.run)
    return 0


def _to_clean(run: Run, settings: Mapping[str, Any]) -> str:
    """What `--clean` says, if it says that the run is to go which has ended like this; else empty."""
    outcome, when = run.state.outcome, str(settings.get("clean") or run.settings.clean)
    return when if outcome and when in ("always", "on-success" if outcome == "succeeded" else "on-error") else ""


def _clean(face: Face, run: Run, settings: Mapping[str, Any]) -> bool:
    """Delete the run if it is to go, and its result stays true; was it deleted?"""
    when = _to_clean(run, settings)
    if not when:
        return False
    if face.names_files:
        say(f"orch: run {run.id} is kept, though --clean {when} was given: its result names files in it; see --out")
        return False
    from orch.cli.clean import delete_run

    delete_run(face.store, run.id)
    face.say(f"orch: deleted run {run.id} (--clean {when})")
    return True


async def _lead(store: FileStore, settings: Mapping[str, Any], begin: Begin, face: Face, ending: _Ending) -> None:
    if face.out is not None:  # recorded, so that a restart exports as well
        settings = {**settings, "out": face.out}
    async with anyio.create_task_group() as tasks:
        await tasks.start(_heed_signals, ending, tasks)
        try:
            async with Orchestrator(
                store.root, tell=lambda text: face.say(f"orch: {text}"), **settings
            ) as orchestrator:
                ending.run = run = await begin(orchestrator)
                collect_again()
                face.say(f"orch: run {run.id}{store_option(store)}")
                await _watch(run, face, ending)
        except Exception as error:  # noqa: BLE001 - raised again outside of the loop, without a group around it
            ending.error = _single(error)
        tasks.cancel_scope.cancel()


async def _watch(run: Run, face: Face, ending: _Ending) -> None:
    """Show progress until the run is over."""
    async with anyio.create_task_group() as tasks:
        progress = Progress(run, quiet=face.quiet, plain=run.settings.adapter == IN_PROCESS)
        tasks.start_soon(progress.show)
        if face.log or face.level in ("info", "debug"):
            from orch.cli.diagnostics import log_events

            tasks.start_soon(log_events, run)
        try:
            await run.wait()
            run.check_outcome()
        except OrchError as error:
            ending.error = error
        finally:
            tasks.cancel_scope.cancel()


async def _heed_signals(
    ending: _Ending, tasks: anyio.abc.TaskGroup, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    heeded = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored
        heeded.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*heeded) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGINT and ending.run is not None and not ending.stopping:
                ending.stopping = True
                say("orch: stopping: ends what runs (Ctrl-C again: leave at once, and let it run)")
                tasks.start_soon(ending.run.stop)
            else:
                ending.left = 128 + number
                tasks.cancel_scope.cancel()
                return


def _shorter(error: Exception) -> Exception:
    """Without what the summary has said already."""
    if not isinstance(error, RunFailed):
        return error
    from orch.leader.report import without_head

    return RunFailed(without_head(str(error)), error.failures)


def _single(error: Exception) -> Exception:
    """The one error inside groups of one."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _farewell(run: Run | None, code: int, store: FileStore) -> str:
    if run is None:
        return "orch: interrupted before the run began; nothing is left of it"
    live = len(run.state.live)
    jobs = f"{live} attempt{'' if live == 1 else 's'} may still run; " if live else ""
    how = f"orch replay {run.id} --restart{store_option(store)}"
    return f"orch: left run {run.id} (exit {code}); {jobs}carry it on: {how}"


def _hint(face: Face, run: Run) -> None:
    """On the first run of a store: how to look at it."""
    from orch.store.runs import list_runs

    if not face.quiet and list_runs(face.store) == [run.id]:
        where = store_option(face.store)
        say(f"look at it: orch replay{where} · orch tail{where} · orch logs{where} JOB · orch why{where} JOB")
