"""Where a test of the kit works: a store, leaders that come and go, attempts, and what is left at the end."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import shlex
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from orch.adapters.contract import Adapter, Finished, Queued, Said, Session, Started, Unknown, Update
from orch.attempt import Attempt, CommandSpec, Note, Outcome
from orch.bus.events import Blob, Resources
from orch.bus.segment import segment_name
from orch.store import layout
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore
from orch.testing.adapter.rig import Rig

T = TypeVar("T")
RUN = "kit"
GLANCE = 0.01
"""Seconds between two looks at what is waited for."""

MARK = "ORCH_KIT_MARK"


class Bench:
    """One test's. Leaving it ends what is left of its attempts, and looks that nothing of them is."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.store = FileStore(rig.root / "the störe")
        self.store.create()
        self.folder = rig.root / "seen by all"
        self.folder.mkdir()
        self.attempts: list[Attempt] = []
        self._mark = uuid.uuid4().hex
        self._epoch = 0
        self._leaders: list[Leader] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._clear_up()
        except (AssertionError, TimeoutError):
            if error is None:  # else what went wrong first is told
                raise
        finally:
            for leader in self._leaders:
                await leader.leave()
        if error is None:
            again = {each.key: count for each in self.attempts if (count := self.ran(each)) > 1}
            assert not again, f"these ran more often than once: {again}"

    async def _clear_up(self) -> None:
        """Nothing is left in the batch system, and no process."""
        leader = next((each for each in self._leaders if not each.left), None)
        if leader is not None:
            live = [key for key in leader.submitted if key not in leader.outcomes]
            await leader.session.cancel(live)
            for key in live:
                await leader.finished(key)
            await leader.session.acknowledge(list(leader.outcomes))
        await self.eventually(lambda: not self.rig.left(), lambda: f"the batch system still has {self.rig.left()}")
        if self.rig.here:
            await self.eventually(lambda: not self.processes(), lambda: f"these still run: {self.processes()}")

    async def lead(self, **changes: Any) -> Leader:
        """A leader of a later epoch than all before, with an adapter of its own, as in another process."""
        self._epoch += 1
        log = Path(self.store.root) / layout.log_dir(RUN)
        log.mkdir(parents=True, exist_ok=True)
        (log / segment_name(self._epoch)).touch()  # it leads the run from here on, as a leader does
        adapter = self.rig.adapter()
        info = msgspec.structs.replace(self.rig.info(str(self.store.root), RUN, self._epoch), **changes)
        try:
            async with asyncio.timeout(self.rig.patience):
                session = await adapter.open(info)
        except BaseException:  # whatever it is: connections that it has made are nobody's now
            await adapter.close()
            raise
        leader = Leader(self, adapter, session)
        self._leaders.append(leader)
        return leader

    async def begin(self, **changes: Any) -> Leader:
        """The first leader of a run: it knows of no attempts."""
        leader = await self.lead(**changes)
        await leader.session.find([], 0)
        return leader

    @contextlib.asynccontextmanager
    async def full(self, leader: Leader) -> AsyncIterator[None]:
        """What is handed over meanwhile waits."""
        if "hold" not in self.rig.cannot:
            self.rig.hold(hold=True)
            try:
                yield
            finally:
                self.rig.hold(hold=False)
            return
        gate = self.gate("full")
        filler = self.shell(gate.wait, cores=leader.session.capacity().cores)
        await leader.submit(filler)
        await leader.started(filler)
        try:
            yield
        finally:
            gate.open()

    # Waiting ------------------------------------------------------------------------------------------------------

    async def eventually(self, wanted: Callable[[], object], otherwise: Callable[[], str]) -> None:
        """Look until it is so. Raises `AssertionError` with what there is instead."""
        if not await comes(wanted, self.rig.patience):
            raise AssertionError(f"after {self.rig.patience:g} s {otherwise()}")

    async def until(self, ask: Callable[[], Awaitable[T]], wanted: Callable[[T], object]) -> T:
        """Ask until the answer is as wanted. Raises `TimeoutError`."""
        async with asyncio.timeout(self.rig.patience):
            while not wanted(answer := await ask()):  # noqa: ASYNC110 - what is asked sets no event
                await asyncio.sleep(GLANCE)
        return answer

    async def exists(self, path: Path) -> None:
        """Wait until a file is there."""
        await self.eventually(path.exists, lambda: f"there is no {path}")

    def processes(self) -> list[str]:
        """What runs on this host with the mark of this bench's commands."""
        needle = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if needle in (entry / "environ").read_bytes():
                        found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
        return found

    # Attempts -----------------------------------------------------------------------------------------------------

    def attempt(self, form: str, body: bytes, **changes: Any) -> Attempt:
        """A new one. `cores`, `memory`, `disk`, `walltime` are its resources."""
        number = len(self.attempts) + 1
        wanted = {name: changes.pop(name) for name in ("cores", "memory", "disk", "walltime") if name in changes}
        attempt = Attempt(
            key=f"{RUN}.{number}.1",
            run=RUN,
            job=number,
            attempt=1,
            epoch=self._epoch,
            kind="kit",
            name=f"job {number}",
            form=form,
            body=Blob(data=body, size=len(body)),
            resources=Resources(**wanted),
        )
        self.attempts.append(msgspec.structs.replace(attempt, **changes))
        return self.attempts[-1]

    def command(self, argv: list[str], *, env: dict[str, str] | None = None, cwd: str = "", **changes: Any) -> Attempt:
        """A program."""
        spec = CommandSpec(argv=argv, env={MARK: self._mark, **(env or {})}, cwd=cwd)
        return self.attempt("command", msgspec.json.encode(spec), **changes)

    def shell(self, script: str = "", **changes: Any) -> Attempt:
        """A line of shell, which says before that it runs: see `ran`."""
        ran = shlex.quote(self._ran(len(self.attempts) + 1))
        return self.command(["/bin/sh", "-c", f"echo . >> {ran}\n{script}"], **changes)

    def python(
        self, function: Callable[..., Any], *args: Any, form: str = "fork", kwargs: Any = None, **changes: Any
    ) -> Attempt:
        """A function of `bodies`, the first parameter of which says where to note that it runs."""
        ran = self._ran(len(self.attempts) + 1)
        return self.attempt(form, pickle.dumps((function, (ran, *args), kwargs or {}), 5), **changes)

    def _ran(self, number: int) -> str:
        return str(self.folder / f"ran.{number}")

    def ran(self, attempt: Attempt) -> int:
        """How often an attempt's body has begun."""
        path = Path(self._ran(attempt.job))
        return len(path.read_text().splitlines()) if path.exists() else 0

    def gate(self, name: str = "gate") -> Gate:
        """What a body can wait for."""
        return Gate(self.folder / name)

    def value(self, outcome: Outcome) -> Any:
        """What a successful attempt returned."""
        assert outcome.reason == "FINISHED", outcome
        return pickle.loads(blob_bytes(self.store, outcome.value))


async def comes(wanted: Callable[[], object], patience: float) -> bool:
    """Look until it is so; False: it has not come in so many seconds."""
    until = time.monotonic() + patience
    while not wanted():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(GLANCE)
    return True


class Gate:
    """A file that bodies wait for; `wait`, for a line of shell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wait = f"until [ -e {shlex.quote(str(path))} ]; do sleep 0.05; done"

    def open(self) -> None:
        """Let them go on."""
        self.path.touch()


class Leader:
    """One leader's session, and what has come from it."""

    def __init__(self, bench: Bench, adapter: Adapter, session: Session) -> None:
        self.session = session
        self.left = False
        self.updates: list[Update] = []
        self.outcomes: dict[str, Outcome] = {}
        self.submitted: list[str] = []
        self._bench = bench
        self._adapter = adapter
        self._stream: AsyncIterator[list[Update]] = session.updates()
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for batch in self._stream:
            for update in batch:
                self.updates.append(update)
                if isinstance(update, Finished):
                    self.outcomes.setdefault(update.key, update.outcome)

    async def leave(self) -> None:
        """Let go, as a process that ends in order or not: attempts go on."""
        if self.left:
            return
        self.left = True
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self.session.close()
        await self._adapter.close()

    async def submit(self, *attempts: Attempt) -> None:
        """Hand over."""
        self.submitted += [attempt.key for attempt in attempts if attempt.key not in self.submitted]
        await self.session.submit(attempts)

    async def until(self, wanted: Callable[[Update], bool], what: str) -> Update:
        """The first update that is `wanted`; it may have come already."""

        def found() -> Update | None:
            if self._listening.done() and not self.left:
                self._listening.result()
                raise AssertionError("the updates have ended")
            return next((update for update in self.updates if wanted(update)), None)

        await self._bench.eventually(found, lambda: f"nothing has said {what}; there was {self.updates[-20:]}")
        update = found()
        assert update is not None
        return update

    async def finished(self, attempt: Attempt | str) -> Outcome:
        """How an attempt ended."""
        key = attempt if isinstance(attempt, str) else attempt.key
        await self.until(lambda update: isinstance(update, Finished) and update.key == key, f"the end of {key}")
        return self.outcomes[key]

    async def started(self, attempt: Attempt) -> Started:
        """That its body runs."""
        key = attempt.key
        found = await self.until(
            lambda update: isinstance(update, Started) and update.key == key, f"the start of {key}"
        )
        assert isinstance(found, Started)
        return found

    async def taken(self, attempt: Attempt) -> str:
        """What the batch system calls it."""

        def wanted(update: Update) -> bool:
            return isinstance(update, Queued | Started) and update.key == attempt.key

        found = await self.until(wanted, f"that {attempt.key} was taken")
        assert isinstance(found, Queued | Started)
        return found.id

    async def standing(self, attempt: Attempt) -> Queued | Started | Finished | Unknown:
        """The first that is said of it."""

        def wanted(update: Update) -> bool:
            return not isinstance(update, Note | Said) and update.key == attempt.key

        found = await self.until(wanted, f"where {attempt.key} stands")
        assert not isinstance(found, Note | Said)
        return found

    def said(self) -> list[str]:
        """What was said for the user."""
        return [update.text for update in self.updates if isinstance(update, Said)]

    async def run(self, attempt: Attempt) -> Outcome:
        """Hand over, and wait for the end."""
        await self.submit(attempt)
        return await self.finished(attempt)
