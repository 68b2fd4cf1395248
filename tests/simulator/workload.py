"""What simulated bodies do: a random workflow whose result is known, with values and files in a simulated store.

The store's own code (`orch.store.file`) writes them, to the simulated disk. A part of the stories has plain jobs only:
those make the most of what goes wrong between them.
"""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import msgspec
from support.rich_workflows import RichWorkflow
from support.workflows import RandomWorkflow, Resolved, resolve

from orch.attempt import Attempt, NewJob, Outcome, Plan, Reason, Value
from orch.bus.events import Blob, Resources, StoredFile
from orch.errors import StoreError
from orch.leader.supply import NOTHING
from orch.store import layout
from orch.store.disk import Disk as StoreDisk
from orch.store.file import FileStore
from simulator.disk import Disk
from simulator.names import ROOT, RUN
from simulator.oracle import Violation
from simulator.world import World


class Workload:
    """`names` of all jobs that will have been made, and the `expected` result. `rich`: with everything in it.

    `services`: how often jobs are services, in parts.
    """

    def __init__(
        self, seed: int, world: World, disk: Disk, *, most: int, deepest: int, rich: bool, services: int = 1
    ) -> None:
        self._seed = seed
        self._disk = disk
        self.rich = RichWorkflow(seed, most=most, deepest=deepest, services=services) if rich else None
        self._workflow = self.rich or RandomWorkflow(seed, most=most, deepest=deepest, retries=2)
        self.store = FileStore(ROOT, Facade(world, disk))
        self.names = self._workflow.names
        self.expected: Resolved = self._workflow.expected

    def plan(self) -> Plan:
        """What the workflow function leaves behind."""
        plan = self._workflow.plan()
        return msgspec.structs.replace(plan, jobs=[self._sized(job) for job in plan.jobs])

    def body(self, attempt: Attempt) -> Outcome:
        """What an attempt leaves behind at its end, written durably; a store that fails makes it fail."""
        values = {
            job: Value(blob=Blob(data=self._read(value.blob)), refs=value.refs) for job, value in attempt.values.items()
        }
        inline = msgspec.structs.replace(attempt, body=Blob(data=self._read(attempt.body)), values=values)
        try:
            outcome = self._workflow.body(inline)
        except (LookupError, ValueError) as error:  # a place that is not filled, or no value at all
            raise Violation(f"{attempt.key} is given a value in which something is missing: {error!r}") from error
        if attempt.survey or outcome.reason is not Reason.FINISHED:
            return msgspec.structs.replace(outcome, key=attempt.key)
        try:
            return self._stored(attempt, outcome)
        except StoreError as error:
            return Outcome(key=attempt.key, reason=Reason.ERROR, message=str(error))

    def read(self, values: dict[int, Value]) -> Resolved:
        """The value number 0 (the run's is), read as an attempt's values are."""
        inline = {job: Value(blob=Blob(data=self._read(v.blob)), refs=v.refs) for job, v in values.items()}
        return resolve(inline, 0)

    def _stored(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        chance = random.Random(f"{self._seed}:{attempt.name}:files")
        value, files, jobs = outcome.value, [], [self._sized(job) for job in outcome.jobs]
        if value.data and chance.random() < 0.3 and attempt.form != "service":
            value = self._put(layout.value_file(RUN, attempt.job, attempt.attempt), value.data)
        for k, job in enumerate(jobs):
            if chance.random() < 0.1:
                path = layout.value_file(RUN, attempt.job, attempt.attempt, f"body{k}")
                jobs[k] = msgspec.structs.replace(job, body=self._put(path, job.body.data))
        if chance.random() < (0.4 if self.rich is not None else 0.2) and attempt.form != "service":
            written = self._put(f"{layout.files_dir(RUN, attempt.job, attempt.attempt)}/0/out", b"o" * 1500)
            keep = "successors" if self.rich is not None and chance.random() < 0.6 else ""
            files = [StoredFile(path=written.file, size=written.size, digest=written.digest, keep=keep)]
        return msgspec.structs.replace(outcome, key=attempt.key, value=value, jobs=jobs, files=files)

    def _sized(self, job: NewJob) -> NewJob:
        if self.rich is not None:
            return job
        chance = random.Random(f"{self._seed}:{job.name}:size")
        wanted = Resources(cores=chance.choice([0.5, 1.0, 1.0, 2.0]), memory=chance.choice([1, 1, 2, 4]) << 30)
        return msgspec.structs.replace(job, resources=wanted)

    def _put(self, path: str, data: bytes) -> Blob:
        return Blob(file=path, size=len(data), digest=self.store.write_bytes(path, data))

    def _read(self, blob: Blob) -> bytes:
        """Any byte: whoever reads what is not there, or not what was written, fails."""
        if not blob.file:
            return b"null" if blob == NOTHING else blob.data
        data = self._disk.get(Path(ROOT) / blob.file)
        assert data is not None, f"{blob.file} is not in the store"
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == blob.digest, f"{blob.file} has other contents"
        return data


class Facade(StoreDisk):
    """The simulated disk, as the store's code sees it. A write may take only part of what it is given."""

    def __init__(self, world: World, disk: Disk) -> None:
        self._world = world
        self._disk = disk

    def create(self, path: Path, mode: int) -> int:
        self._disk.fail("create", path)
        return self._disk.create(path)

    def protect(self, descriptor: int, mode: int) -> None:
        """Nobody else is here."""

    def write(self, descriptor: int, data: memoryview) -> int:
        part = bytes(data[: self._world.chance.randint(1, len(data))])
        self._disk.fail("write", self._disk.path_of(descriptor))
        written = self._disk.write(descriptor, part)
        if written < len(part):
            raise OSError(28, os.strerror(28))
        return written

    def sync(self, descriptor: int) -> None:
        try:
            self._disk.fail("sync", self._disk.path_of(descriptor))
        except OSError:
            self._disk.fail_sync(descriptor)
            raise
        self._disk.sync(descriptor)

    def close(self, descriptor: int) -> None:
        self._disk.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._disk.fail("rename", target)
        self._disk.rename(source, target)

    def make_directory(self, path: Path) -> None:
        """There are no directories to make."""

    def sync_directory(self, path: Path) -> None:
        self._disk.fail("sync_dir", path)
        self._disk.sync_dir(path)
