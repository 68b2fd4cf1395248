"""Faults that are put into the engine on purpose: the simulator is worth something if it finds each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from orch.adapters.contract import Finished, OfAttempt, Unknown, Update
from orch.agent.admission import Admission
from orch.agent.core import Agent
from orch.agent.model import Run
from orch.bus import events as ev
from orch.bus import log as log_module
from orch.bus import takeover
from orch.bus.log import Log
from orch.bus.segment import opened_file, trouble
from orch.leader import leader as leader_module
from orch.leader.leader import Leader
from orch.leader.supply import Supply
from orch.leader.turn import Turn
from orch.state import fold as fold_module
from orch.state import react as react_module
from orch.state.decide import attempt_key
from orch.state.law import LIVE, JobState
from orch.state.model import Job, State
from orch.store.file import FileStore
from simulator.kind import ANY, Kind
from simulator.process import Mounted

Patch = pytest.MonkeyPatch


@dataclasses.dataclass(frozen=True)
class Fault:
    """`plant` puts it in. `why`: what could happen to users. `kind`: of the stories that show it; others seldom do."""

    why: str
    plant: Callable[[Patch], None]
    kind: Kind


FAULTS: dict[str, Fault] = {}

AGENTS = Kind(theme="system", here=True)
DISK = Kind(theme="disk")
ELSEWHERE = Kind(theme="system", here=False)
LEADERS = Kind(theme="leaders")
RICH = Kind(rich=True)
SERVICES = Kind(theme="services")
WISHES = Kind(theme="wishes")


def fault(why: str, kind: Kind = ANY) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register one, under its function's name."""

    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        FAULTS[plant.__name__.replace("_", "-")] = Fault(why, plant, kind)
        return plant

    return register


# The log ---------------------------------------------------------------------------------------------------------


@fault("a power cut takes back what was acknowledged")
def forget_to_sync(patch: Patch) -> None:
    def write(self: Log, groups: list[list[bytes]]) -> None:
        synced, self._synced = self._synced, False
        try:
            real(self, groups)
        finally:
            self._synced = synced

    real = Log._write
    patch.setattr(Log, "_write", write)


@fault("a power cut takes away a whole segment", DISK)
def forget_to_sync_the_directory(patch: Patch) -> None:
    patch.setattr(Mounted, "sync_dir", lambda self, path: None)


@fault("what an older leader was told is durable is not seen by the next one", LEADERS)
def do_not_scan_after_the_claim(patch: Patch) -> None:
    def rescan(directory: Any, before: Any, files: Any) -> Any:
        if before.end is None:
            return before
        last = before.spans[-1]
        return msgspec.structs.replace(
            before, spans=[*before.spans[:-1], msgspec.structs.replace(last, end=before.end)]
        )

    patch.setattr(log_module, "rescan", rescan)


@fault("after a failed sync, a power cut takes away what the next leader has built upon", DISK)
def trust_a_second_sync(patch: Patch) -> None:
    def secure(files: Any, span: Any, index: Any, end: Any) -> None:
        with trouble("sync", span.path), opened_file(span.path, files) as handle:
            files.sync(handle)

    patch.setattr(takeover, "_secure", secure)


@fault("two leaders lead at once", LEADERS)
def ignore_the_epoch(patch: Patch) -> None:
    patch.setattr(Log, "_must_lead", lambda self, *, fenced: None)


@fault("a leader whose disk has failed goes on", DISK)
def write_on_after_a_failed_sync(patch: Patch) -> None:
    patch.setattr(Log, "_must_work", lambda self: None)

    def sync(self: Mounted, handle: int) -> None:
        try:
            real(self, handle)
        except OSError:
            return

    real = Mounted.sync
    patch.setattr(Mounted, "sync", sync)


# The leader ------------------------------------------------------------------------------------------------------


@fault("a leader that dies has done what nobody knows of")
def act_before_the_append(patch: Patch) -> None:
    async def turn(self: Leader, items: Sequence[Any]) -> bool:
        commit, self._log.commit = self._log.commit, _nothing  # type: ignore[method-assign]
        try:
            last = await real(self, items)
        finally:
            self._log.commit = commit  # type: ignore[method-assign]
        await commit()
        return last

    real = Leader._turn
    patch.setattr(Leader, "_turn", turn)


def handle(patch: Patch, kind: type[ev.Event], handler: Callable[[State, Any], None]) -> None:
    """Fold events of a type otherwise."""
    patch.setattr(fold_module, "HANDLERS", {**fold_module.HANDLERS, kind: handler})


async def _nothing() -> None:
    """Commit nothing."""


@fault("an attempt that was handed over is not known after a crash, and is handed over again")
def hand_over_before_the_intention_is_durable(patch: Patch) -> None:
    async def decide(self: Leader, turn: Turn) -> None:
        await real(self, turn)
        early, turn.submit = turn.submit, []
        await self._session.submit(await self._attempts(early))

    real = Leader._decide
    patch.setattr(Leader, "_decide", decide)


@fault("two attempts bear one name, and the outcome of the first is taken for that of the second")
def reuse_an_attempt_number(patch: Patch) -> None:
    patch.setattr(leader_module, "attempt_key", lambda run, job, attempt: attempt_key(run, job, max(1, attempt - 1)))


@fault("an outcome is thrown away by the batch system before it is safe")
def acknowledge_too_early(patch: Patch) -> None:
    async def turn(self: Leader, items: Sequence[Any]) -> bool:
        await self._session.acknowledge([item.outcome.key for item in items if isinstance(item, Finished)])
        return await real(self, items)

    real = Leader._turn
    patch.setattr(Leader, "_turn", turn)


@fault("an old answer of the batch system makes a live attempt be handed over again", ELSEWHERE)
def believe_old_answers(patch: Patch) -> None:
    def learn(self: Leader, turn: Turn, update: OfAttempt) -> None:
        if isinstance(update, Unknown):
            update = Unknown(key=update.key, ask=self._ask)
            self._unsettled.add(update.key)
        real(self, turn, update)

    real = Leader._learn
    patch.setattr(Leader, "_learn", learn)


@fault("after a restart, attempts that run are started a second time")
def schedule_before_asking(patch: Patch) -> None:
    async def find(self: Leader, keys: list[str]) -> None:
        self._unsettled = set()
        for job in list(self.state.live):
            row = self.state.jobs[job]
            del self.state.live[job]
            self.state.ready.add(row)
            self.state.counts[row.state] -= 1
            row.state = JobState.READY
            self.state.counts[row.state] += 1
        self._inbox.put([])
        await real(self, [])

    real = Leader._find
    patch.setattr(Leader, "_find", find)


@fault("a wish to cancel is forgotten by the next leader", WISHES)
def forget_a_cancel(patch: Patch) -> None:
    real = fold_module.HANDLERS[ev.Opened]

    def opened(state: State, event: ev.Opened) -> None:
        real(state, event)
        state.cancelling = False

    handle(patch, ev.Opened, opened)


# The fold and what feeds it --------------------------------------------------------------------------------------


@fault("an old attempt commits after a newer one has begun", ELSEWHERE)
def listen_to_old_attempts(patch: Patch) -> None:
    def row_of(state: State, key: str) -> Job | None:
        row = state.jobs.get(int(key.split(".")[1]))
        return row if row is not None and row.state in LIVE else None

    patch.setattr(react_module, "live_row", row_of)


@fault("a job starts with another value than the one that was committed")
def take_values_from_the_wrong_event(patch: Patch) -> None:
    def note(self: Supply, event: ev.Event) -> None:
        if isinstance(event, ev.Succeeded) and event.attempt > 1:
            self._put(event.seq, ev.Blob(data=b"[0]", size=3))
        else:
            real(self, event)

    real = Supply.note
    patch.setattr(Supply, "note", note)


@fault("the live state is not what a replay gives")
def fold_the_clock(patch: Patch) -> None:
    real = fold_module.HANDLERS[ev.Running]

    def running(state: State, event: ev.Running) -> None:
        real(state, event)
        state.jobs[event.job].pid = id(event)

    handle(patch, ev.Running, running)


# The agent -------------------------------------------------------------------------------------------------------


@fault("more is promised than the host has")
def commit_too_much(patch: Patch) -> None:
    patch.setattr(Admission, "fits", lambda self, run, shape: True)


@fault("what had finished when its agent died runs again", AGENTS)
def forget_what_the_journal_says(patch: Patch) -> None:
    def standing(self: Agent, run: Run, key: str) -> Update | None:
        kept, run.kept = run.kept, {}
        try:
            return real(self, run, key)
        finally:
            run.kept = kept

    real = Agent._standing
    patch.setattr(Agent, "_standing", standing)


# The store -------------------------------------------------------------------------------------------------------


@fault("an event names a file that a power cut takes away")
def name_a_file_before_it_is_durable(patch: Patch) -> None:
    def write_bytes(self: FileStore, path: str, data: bytes, *, executable: bool = False, sync: bool = True) -> str:
        return real(self, path, data, executable=executable, sync=False)

    real = FileStore.write_bytes
    patch.setattr(FileStore, "write_bytes", write_bytes)
