"""The adapter `fake`: a cluster of real processes on this host, spoken to as batch systems are, by commands.

    orch run --adapter fake flow.py                       a cluster of its own, for as long as the leader lives
    python -m orch.testing.cluster DIR                    one for more than that, which
    orch run --adapter fake --fake-cluster DIR flow.py    uses

It is a whole example of what an author of an adapter for a batch system writes.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from orch.adapters.batch.adapter import BatchAdapter
from orch.adapters.batch.dialect import Answer, Command, End, Order, Reason, Refused, Room, Seen, Stage, Trouble
from orch.adapters.batch.engine import Engine
from orch.adapters.contract import Adapter, RunInfo
from orch.errors import UserError
from orch.testing.cluster.control import BIN, Cluster
from orch.testing.cluster.faces.fake import REFUSED, UNKNOWN

SETTING = "fake-cluster"

STAGES = {
    "queued": Stage.QUEUED,
    "held": Stage.HELD,
    "running": Stage.RUNNING,
    "ending": Stage.ENDING,
    "over": Stage.OVER,
}
"""From the states of `orch.testing.cluster.client.Row`."""

REASONS = {
    "signal": Reason.FAILED,
    "memory": Reason.MEMLIMIT,
    "walltime": Reason.MAXJOBDURATION,
    "cancelled": Reason.KILLED,
    "node": Reason.LOST,
    "preempted": Reason.PREEMPTED,
}
"""From its reasons, but for "exit", where the exit code says which it is."""


class FakeDialect:
    """The commands of `orch.testing.cluster.faces.fake`."""

    name = "fake"
    index_variable = "FAKE_INDEX"
    job_variable = "FAKE_JOB"
    most_tasks = 100
    most_asked = 500
    lag = 0.5
    backend_keys = None  # each is kept with the submission

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._directory = options.get(SETTING, "")
        if self._directory:
            self._directory = os.path.abspath(os.path.expanduser(self._directory))

    def check(self) -> None:
        """There has to be a directory."""
        if not self._directory:
            raise UserError(f"{SETTING}: the directory of a cluster is missing")

    def _call(self, name: str, *words: str) -> Command:
        return Command([os.path.join(self._directory, BIN, f"fake-{name}"), *words])

    def submit(self, order: Order) -> Command:
        """There are no accelerators."""
        if order.accelerators:
            raise Refused("the fake cluster has no accelerators")
        options = {
            "name": order.name,
            "label": order.label.replace("\0", " "),
            "tasks": order.size,
            "cores": order.cores,
            "memory": order.memory,
            "walltime": order.walltime,
            "grace": order.grace,
            "queue": order.queue,
            "priority": order.priority,
            "log": order.log,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        kept = [word for name, value in order.backend for word in ("--keep", f"{name}={value}")]
        return self._call("submit", *words, *kept, order.script)

    def submitted(self, order: Order, answer: Answer) -> str:
        """The number of the submission."""
        if answer.code == REFUSED:
            raise Refused(answer.said)
        found = _parsed(answer)
        if not isinstance(found, dict) or "job" not in found:
            raise Trouble(f"an answer that makes no sense: {answer.said}")
        return str(found["job"])

    def task(self, job: str, index: int, size: int) -> str:
        """As in 12, or 12.3."""
        return f"{job}.{index}" if size > 1 else job

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """One command."""
        return [self._call("queue", "--jobs", ",".join(jobs))]

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """From rows."""
        return {row["task"]: _seen(row) for answer in answers for row in _rows(answer)}

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """One command."""
        jobs = dict.fromkeys(task.partition(".")[0] for task in tasks)
        return [self._call("history", "--jobs", ",".join(jobs), "--since", str(since))]

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """From rows."""
        return self.seen(answers)

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """One command."""
        return [self._call("queue", "--names", ",".join(names))]

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """From the rows of its tasks."""
        return {row["name"]: row["task"].partition(".")[0] for answer in answers for row in _rows(answer)}

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """One command."""
        return [self._call("cancel", *tasks)]

    def cancelled(self, answer: Answer) -> None:
        """What is not known any more is over."""
        if answer.code not in (0, UNKNOWN):
            raise Trouble(answer.said)

    def survey(self) -> Sequence[Command]:
        """One command."""
        return [self._call("nodes")]

    def room(self, answers: Sequence[Answer]) -> Room:
        """Of all nodes, those that are down, too: they come back."""
        nodes = [node for answer in answers for node in _rows(answer)]
        return Room(
            cores=sum(node["cores"] for node in nodes),
            node_cores=max((node["cores"] for node in nodes), default=0),
            node_memory=max((node["memory"] for node in nodes), default=0),
        )


def _parsed(answer: Answer) -> Any:
    if answer.code != 0:
        raise Trouble(answer.said)
    try:
        return json.loads(answer.out)
    except ValueError as error:
        raise Trouble(f"an answer that makes no sense: {answer.said}") from error


def _rows(answer: Answer) -> list[dict[str, Any]]:
    found = _parsed(answer)
    if not isinstance(found, list):
        raise Trouble(f"an answer that makes no sense: {answer.said}")
    return found


def _seen(row: Mapping[str, Any]) -> Seen:
    stage = STAGES.get(row["state"], Stage.STRANGE)
    end = _end(row) if stage is Stage.OVER else None
    return Seen(stage, row["state"], why=row["why"], host=row["host"], end=end)


def _end(row: Mapping[str, Any]) -> End:
    reason, code, signal = row["reason"], row["code"], row["signal"]
    if reason != "exit":
        return End(REASONS.get(reason, Reason.FAILED), code, signal, f"the cluster says: {reason}")
    if code == 0:
        return End(Reason.FINISHED, 0)
    return End(Reason.FAILED, code, message=row["why"] or f"exit code {code}")


class FakeAdapter(BatchAdapter):
    """Has a cluster of its own for runs that name none: it ends with this adapter, and all that it runs."""

    def __init__(self) -> None:
        super().__init__("fake", FakeDialect)
        self._own: Cluster | None = None
        self._starting = asyncio.Lock()

    async def engine(self, info: RunInfo) -> Engine:
        """That of the run's cluster."""
        if not info.options.get(SETTING):
            directory = await self._own_directory(info.work_dir)
            info = msgspec.structs.replace(info, options={**info.options, SETTING: directory})
        return await super().engine(info)

    async def _own_directory(self, work_dir: str) -> str:
        async with self._starting:
            if self._own is None:
                self._own = await asyncio.to_thread(_start, work_dir)
            return self._own.directory

    async def close(self) -> None:
        """End what was started here."""
        await super().close()
        if self._own is not None:
            own, self._own = self._own, None
            await asyncio.to_thread(own.close)


def _start(work_dir: str) -> Cluster:
    cluster = Cluster(
        tempfile.mkdtemp(prefix="orch-cluster-", dir=work_dir or None), slots=os.cpu_count() or 1, temporary=True
    )
    cluster.start()
    return cluster


def adapter() -> Adapter:
    """For the registry."""
    return FakeAdapter()
