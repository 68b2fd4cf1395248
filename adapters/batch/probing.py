"""Looks, from inside a first, small task, whether the nodes can work for a run: before that begins.

Does the store look there as it does here? Is Python the same, and orch? Is the clock right? What was found well holds
for a day, for everything that is alike. Where the task has to wait in the queue, the user is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from orch import __version__
from orch.adapters.batch.board import GOOD_ANSWERS
from orch.adapters.batch.dialect import Answer, NotTaken, Order, Refused, Seen, Stage, Trouble
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.portions import order_name
from orch.adapters.contract import RunInfo
from orch.bus.hands import hands
from orch.environment import packed
from orch.errors import UserError
from orch.store.layout import probe_file
from orch.store.private import make_private, open_private
from orch.worker.script import worker_script
from orch.worker.spool import Header, Sight, Spool, Ticket

Tell = Callable[[str], None]

HOLDS = 24 * 3600.0
"""Seconds for which an answer is believed."""

CLOCKS = 60.0
"""Seconds by which a node's clock may differ."""

WALLTIME = 300.0
LATE = 15.0
"""Seconds after the end of the task in which its answer may come still: network file systems take their time."""

END_WITHIN = 5.0
"""Seconds in which a task is taken out of the queue again that nobody waits for any more."""

LOOK = 2.0
SAY_FIRST, SAY_AGAIN = 5.0, 300.0
"""Seconds: between looks at the queue, and until the user is told what is waited for, and told again."""

_OTHERWISE = "--no-probe begins without looking"


class Known(msgspec.Struct, frozen=True):
    """What is kept of a look that went well. `time`: seconds since 1970."""

    time: float
    host: str


async def probe(engine: Engine, info: RunInfo, tell: Tell) -> None:
    """Look, unless that was done not long ago. Raises `UserError` with what is wrong."""
    path = os.path.join(info.store, probe_file(engine.name, _digest(engine, info)))
    if await hands().run(_is_known, path):
        return
    looking = Probe(engine, info, tell)
    try:
        sight = await looking.look()
    finally:
        await asyncio.shield(looking.end())
    looking.judge(sight)
    await hands().run(_keep, path, Known(time.time(), sight.host))


class Probe:
    """One look."""

    def __init__(self, engine: Engine, info: RunInfo, tell: Tell) -> None:
        self._engine = engine
        self._info = info
        self._tell = tell
        self._spool = Spool(info.store, info.run)
        self._ticket = Ticket(f"{info.epoch}-probe", 1)
        self._nonce = secrets.token_hex(16)
        self._job = ""
        self._order = ""
        self._said = ""
        self._over: tuple[float, Seen] | None = None
        self._absent: list[float] = []  # when good answers in a row did not have it

    @property
    def _task(self) -> str:
        return self._engine.dialect.task(self._job, 1, 1)

    async def look(self) -> Sight:
        """What a task on a node sees. Raises `UserError` if there is no telling."""
        order = await hands().run(self._write)
        await self._submit(order)
        began = looked = time.monotonic()
        pause = 0.1
        while True:
            found = await hands().run(self._spool.outcome, self._ticket)
            if found is not None:
                return msgspec.msgpack.decode(found.value.data, type=Sight)
            now = time.monotonic()
            if self._over is not None and now - self._over[0] > max(LATE, self._engine.dialect.lag):
                raise UserError(await hands().run(self._no_answer, self._over[1]))
            if now - looked >= LOOK and self._over is None:
                looked = now
                await self._ask(began)
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 1.2)

    def _write(self) -> Order:
        """The files of the task, and its order."""
        info, choices, dialect, name = self._info, self._engine.choices, self._engine.dialect, self._ticket.submission
        self._spool.make()
        self._spool.write_environment(info.epoch, packed(info.environment_abroad()))
        self._spool.write_nonce(name, self._nonce)
        order = order_name(info.store, info.run, f"{name}-{self._nonce[:6]}")
        header = Header(
            run=info.run,
            epoch=info.epoch,
            name=order,
            store=info.store,
            made=time.time(),
            work_dir=choices.work_dir,
            probe=True,
        )
        self._spool.write_orders(name, header, [])
        text = worker_script(
            info.store, info.run, name, job=dialect.job_variable, python=choices.python, environment=info.environment
        )
        script = self._spool.write_script(name, text)
        log = self._spool.path("output", f"{self._ticket}.log")
        return Order(name=order, label="orch: a first look", size=1, script=script, log=log, walltime=WALLTIME)

    async def _submit(self, order: Order) -> None:
        engine = self._engine
        self._order = order.name

        def taken(answers: Sequence[Answer]) -> str:
            return engine.dialect.submitted(order, answers[0])

        while not self._job:
            try:
                self._job = await engine.calls.ask("submit", [engine.dialect.submit(order)], taken)
            except Refused as error:
                raise UserError(f"{engine.name} refuses a first, small task: {error}; {_OTHERWISE}") from error
            except NotTaken as error:
                self._say(f"{engine.name} takes no tasks now: {error}; orch goes on trying")
            except Trouble as error:
                self._say(f"{error}; orch goes on trying")
                self._job = await engine.searching.search(order.name, time.time() - WALLTIME)

    async def _ask(self, began: float) -> None:
        """How the task stands; tells the user if that takes long."""
        dialect = self._engine.dialect
        try:
            seen = (await self._engine.calls.ask("look", dialect.look([self._job]), dialect.seen)).get(self._task)
            if seen is None:
                records = dialect.recall([self._task], time.time() - 3600.0)
                seen = (await self._engine.calls.ask("recall", records, dialect.recalled)).get(self._task)
        except Trouble as error:
            self._say(f"{error}; orch goes on asking")
            return
        if seen is None:  # that alone says nothing: its answer may be there in a moment, or the next look finds it
            self._missed(time.monotonic())
            return
        self._absent.clear()
        if seen.stage is Stage.OVER:
            self._over = (time.monotonic(), seen)
        elif seen.stage is Stage.HELD:
            raise UserError(f"{self._engine.name} holds a first, small task: {_words(seen)}; {_OTHERWISE}")
        elif time.monotonic() - began >= SAY_FIRST:
            what = f"waits for a first, small task of {self._engine.name} ({self._task}: {_words(seen)})"
            self._say(f"{what}, which looks whether its nodes can work for this run; {_OTHERWISE}")

    def _missed(self, now: float) -> None:
        self._absent.append(now)
        long = now - self._absent[0] >= self._engine.choices.missing_after
        if long and len(self._absent) >= GOOD_ANSWERS and self._over is None:
            self._over = (now, Seen(Stage.OVER, "the batch system has forgotten it"))

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._tell(text)

    def _no_answer(self, seen: Seen) -> str:
        """The task is over, and nobody knows what it saw."""
        how = seen.end.message if seen.end is not None and seen.end.message else seen.word
        path = self._spool.path("output", f"{self._ticket}.log")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                said = " ".join(file.read()[-1000:].split())
        except OSError:
            said = ""
        where = f" on {seen.host}" if seen.host else ""
        text = f"a first, small task of {self._engine.name}{where} ended without an answer ({how})"
        if said:
            return f"{text}; it wrote: {said}; {_OTHERWISE}"
        return (
            f"{text}, and wrote nothing: the node may not see the store {self._info.store}, or not have "
            f"{self._engine.choices.python or sys.executable}; {_OTHERWISE}"
        )

    def judge(self, sight: Sight) -> None:
        """Raises `UserError` if the node is not fit."""
        problems = []
        if sight.trouble or sight.nonce != self._nonce:
            why = f" ({sight.trouble})" if sight.trouble else ""
            problems.append(f"it does not see the store {self._info.store} as this host does{why}")
        if sight.version != __version__:
            problems.append(f"it has orch {sight.version}, and this host {__version__}")
        ours = ".".join(map(str, sys.version_info[:2]))
        if sight.python.rpartition(".")[0] != ours:
            problems.append(
                f"its Python is {sight.python} ({sight.executable}), and this one {ours} ({sys.executable}): jobs and "
                "values cannot travel between them; batch-python names another"
            )
        off = abs(sight.clock - time.time())
        if off > CLOCKS:
            problems.append(f"its clock differs from that of this host by {off:.0f} seconds")
        if problems:
            raise UserError(f"{sight.host} cannot work for this run: {'; '.join(problems)}; {_OTHERWISE}")

    async def end(self) -> None:
        """Nothing stays of it."""
        if self._order and self._over is None and await hands().run(self._spool.outcome, self._ticket) is None:
            with contextlib.suppress(Trouble, TimeoutError):
                async with asyncio.timeout(END_WITHIN):
                    await self._remove()
        with contextlib.suppress(OSError):
            await hands().run(self._spool.revoke, [self._ticket])
            await hands().run(self._spool.clear, {self._ticket}, {self._ticket.submission})

    async def _remove(self) -> None:
        """From the queue. If it was given up while it was handed over, the answer is lost: it is looked for."""
        engine = self._engine
        while not self._job:
            self._job = await engine.searching.search(self._order, time.time() - WALLTIME)
            if not self._job:
                await asyncio.sleep(1.0)
        await engine.calls.ask("cancel", engine.dialect.cancel([self._task]), lambda _: None)


def _words(seen: Seen) -> str:
    return f"{seen.word} ({seen.why})" if seen.why else seen.word


def _digest(engine: Engine, info: RunInfo) -> str:
    """Of all that an answer depends on, but for the node."""
    what = (sorted(info.options.items()), engine.choices.python or sys.executable, __version__, info.store)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _is_known(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            known = msgspec.json.decode(file.read(), type=Known)
    except (OSError, ValueError):  # there is none, or it is none of ours
        return False
    return 0 <= time.time() - known.time < HOLDS


def _keep(path: str, known: Known) -> None:
    """Whole, or not at all. If it cannot be kept, the next run looks again."""
    with contextlib.suppress(OSError):
        make_private(os.path.dirname(path))
        draft = f"{path}.{os.getpid()}"
        with open(draft, "wb", opener=open_private) as file:
            file.write(msgspec.json.encode(known))
        os.rename(draft, path)
