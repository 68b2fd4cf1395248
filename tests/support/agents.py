"""For tests of the agent: a store, a work directory, sessions, attempts, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import select
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from orch.adapters.contract import Finished, Queued, RunInfo, Said, Session, Started, Unknown, Update
from orch.adapters.local import LocalAdapter
from orch.agent import paths, processes
from orch.agent.forerunner import LOG
from orch.agent.tags import agent_name
from orch.attempt import Attempt, CommandSpec, Note, Outcome
from orch.bus.events import Blob, Resources
from orch.results import CommandResult
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore

TESTS = Path(__file__).parent.parent
PATIENCE = 20


class Lab:
    """One store and one work directory, and so one agent."""

    def __init__(self, root: Path, work_dir: Path | None = None) -> None:
        self.root = root
        self.store = FileStore(root / "store")
        self.store.create()
        self.work_dir = work_dir or root / "work"
        self.adapter = LocalAdapter()
        self.views: list[View] = []

    def info(self, run: str = "run", epoch: int = 1, **changes: Any) -> RunInfo:
        found = RunInfo(
            run=run,
            epoch=epoch,
            store=str(self.store.root),
            environment={**os.environ, "LANG": "C.UTF-8"},
            python_path=[str(TESTS)],
            work_dir=str(self.work_dir),
        )
        return msgspec.structs.replace(found, **changes)

    async def open(self, run: str = "run", epoch: int = 1, *, find: bool = True, **changes: Any) -> View:
        """A session, as a new leader has it; `find`: one that knows of nothing."""
        view = View(self, await self.adapter.open(self.info(run, epoch, **changes)), run)
        self.views.append(view)
        if find:
            await view.session.find([])
        return view

    @property
    def name(self) -> str:
        """With which the mark of every process of the agent begins."""
        return agent_name(str(self.store.root), paths.host_name())

    @property
    def runtime(self) -> str:
        return paths.runtime_directory(str(self.store.root), str(self.work_dir), {})

    def marked(self) -> list[int]:
        """Processes of attempts and templates that live."""
        return [pid for pid in processes.marked(f"{self.name}:") if not processes.is_zombie(pid)]

    def agent_log(self) -> str:
        path = Path(paths.agent_directory(str(self.store.root))) / LOG
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def scratch(self) -> list[str]:
        """Scratch directories that are there."""
        return os.listdir(Path(self.runtime) / "scratch")

    async def close(self) -> None:
        """End the agent, and see that nothing of it is left."""
        guardians = {view.guardian for view in self.views} - {0}
        for view in self.views:
            await view.close()
        for each in guardians:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(each)
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                await gone(descriptor)
        assert not self.marked()
        assert "Traceback" not in self.agent_log(), self.agent_log()


def parent(pid: int) -> int:
    """The pid of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


async def gone(descriptor: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def process_gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    await gone(descriptor)


class View:
    """A session, and what has come from it."""

    def __init__(self, lab: Lab, session: Session, run: str) -> None:
        self.lab = lab
        self.session = session
        self.run = run
        self.updates: list[Update] = []
        self.outcomes: dict[str, Outcome] = {}
        self.job = 0
        self._stream: AsyncIterator[list[Update]] = session.updates()

    @property
    def agent(self) -> int:
        """The agent's pid."""
        welcome = self.session._welcome  # type: ignore[attr-defined]
        return int(welcome.pid)

    @property
    def guardian(self) -> int:
        """The pid of the agent's parent, which ends when nothing of the agent is left; 0 if the agent is gone."""
        try:
            found = parent(self.agent)
            words = Path(f"/proc/{found}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            return 0
        return found if b"orch.agent" in words else 0  # it was given to another, or to init

    async def close(self) -> None:
        await self.session.close()
        await self._stream.aclose()  # type: ignore[attr-defined]

    async def until(self, wanted: Callable[[Update], bool]) -> Update:
        """Hear updates until one is `wanted`; it may have come already."""
        for update in self.updates:
            if wanted(update):
                return update
        async with asyncio.timeout(PATIENCE):
            async for batch in self._stream:
                for update in batch:
                    self.updates.append(update)
                    if isinstance(update, Finished):
                        self.outcomes[update.key] = update.outcome
                for update in batch:
                    if wanted(update):
                        return update
        raise AssertionError("the updates have ended")

    async def outcome(self, attempt: Attempt, *, acknowledge: bool = True) -> Outcome:
        """How an attempt ended."""
        await self.until(lambda update: isinstance(update, Finished) and update.key == attempt.key)
        if acknowledge:
            await self.session.acknowledge([attempt.key])
        return self.outcomes[attempt.key]

    async def started(self, attempt: Attempt) -> Started:
        """That an attempt runs."""
        found = await self.until(lambda update: isinstance(update, Started) and update.key == attempt.key)
        assert isinstance(found, Started)
        return found

    async def standing(self, attempt: Attempt) -> Queued | Started | Finished | Unknown:
        """The first that is said of an attempt."""
        found = await self.until(lambda update: not isinstance(update, Note | Said) and update.key == attempt.key)
        assert not isinstance(found, Note | Said)
        return found

    def attempt(self, form: str, body: bytes, **changes: Any) -> Attempt:
        """A new attempt of this run. `cores`, `memory`, `disk`, `walltime`, `accelerators` are its resources."""
        self.job += 1
        names = ("cores", "memory", "disk", "walltime", "accelerators")
        wanted = {name: changes.pop(name) for name in names if name in changes}
        attempt = Attempt(
            key=f"{self.run}.{self.job}.1",
            run=self.run,
            job=self.job,
            attempt=1,
            epoch=1,
            kind="test",
            name="a test",
            form=form,
            body=Blob(data=body, size=len(body)),
            resources=Resources(**wanted),
        )
        return msgspec.structs.replace(attempt, **changes)

    def command(self, *argv: str, spec: dict[str, Any] | None = None, **changes: Any) -> Attempt:
        """A program."""
        return self.attempt("command", msgspec.json.encode(CommandSpec(argv=list(argv), **(spec or {}))), **changes)

    def shell(self, script: str, **changes: Any) -> Attempt:
        """A line of shell."""
        return self.command("sh", "-c", script, **changes)

    def python(self, function: Callable[..., Any], *args: Any, form: str = "fork", **changes: Any) -> Attempt:
        """A function of a module that templates can import; keyword arguments of it in `kwargs`."""
        body = pickle.dumps((function, args, changes.pop("kwargs", {})), 5)
        return self.attempt(form, body, **changes)

    async def submit(self, *attempts: Attempt) -> None:
        await self.session.submit(attempts)

    async def run_one(self, attempt: Attempt) -> Outcome:
        """Submit an attempt, and wait for its end."""
        await self.submit(attempt)
        return await self.outcome(attempt)

    def value(self, outcome: Outcome) -> Any:
        """What a successful attempt returned."""
        assert outcome.reason == "FINISHED", outcome
        return pickle.loads(blob_bytes(self.lab.store, outcome.value))

    def result(self, outcome: Outcome) -> CommandResult:
        """The value of a command."""
        found = self.value(outcome)
        assert isinstance(found, CommandResult)
        return found


class Signal:
    """A named pipe on which attempts say that they are there, and which this side waits for."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    async def wait(self, count: int = 1) -> bytes:
        """Wait for `count` bytes."""
        return await asyncio.to_thread(self._read, count)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            ready, _, _ = select.select([self._descriptor], [], [], PATIENCE)
            assert ready, f"{self.path}: {data!r}, and nothing more"
            data += os.read(self._descriptor, count - len(data))
        return data

    def close(self) -> None:
        os.close(self._descriptor)
