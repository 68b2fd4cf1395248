"""For tests of workers: makes attempts of jobs, and runs whole graphs in this process, one attempt after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from orch.attempt import Attempt, NewJob, Note, Outcome, Place, Value
from orch.authoring.collect import Collected, collect
from orch.authoring.pickling import loads
from orch.bus.events import Blob
from orch.store.file import FileStore
from orch.work.execute import run_attempt


def inline(_name: str, data: bytes) -> Blob:
    """Every blob inside the record."""
    return Blob(data=data, size=len(data))


def gather(value: Any) -> Collected:
    """What `value` leaves behind, with everything inline."""
    return collect(value, [], inline)


class World:
    """A place for attempts, and a leader of the simplest kind."""

    def __init__(self, root: Path) -> None:
        self.place = Place(str(root / "store"), str(root / "scratch"), host="here", deferred=str(root / "deferred"))
        self.store = FileStore(self.place.store)
        self.store.create()
        self.notes: list[Note] = []
        self.values: dict[int, Value] = {}
        self.attempts = 0

    def attempt(self, new: NewJob, job: int = 1, needs: list[int] | None = None, **changes: Any) -> Attempt:
        """The first attempt at a new job."""
        attempt = Attempt(
            key=f"run/{job}.1",
            run="run",
            job=job,
            attempt=1,
            epoch=1,
            kind=new.kind,
            name=new.name,
            form=new.form,
            body=new.body,
            resources=new.resources,
            needs=needs or [],
            values=self.values,
        )
        return msgspec.structs.replace(attempt, **changes)

    def run(self, attempt: Attempt, **options: Any) -> Outcome:
        """Run it in this process."""
        self.attempts += 1
        return run_attempt(attempt, self.place, self.notes.append, **options)

    def outcome(self, job: Any, **changes: Any) -> Outcome:
        """Of the first attempt at a job that needs no other."""
        return self.run(self.attempt(gather(job).jobs[-1], **changes))

    def value(self, job: Any) -> Any:
        """Of a job that needs no other and makes none. Fails if it does."""
        outcome = self.outcome(job)
        assert outcome.reason == "FINISHED", outcome.message
        assert not outcome.refs
        return loads(self.bytes(outcome.value), lambda *_: None)

    def bytes(self, blob: Blob) -> bytes:
        """A blob's bytes, wherever they are."""
        return self.store.read_bytes(blob.file) if blob.file else blob.data

    def evaluate(self, value: Any) -> Any:
        """A whole graph, run until nothing is left to do; the value with everything in its place."""
        return Evaluation(self).result(gather(value))


class Evaluation:
    """Runs jobs in the order of their numbers; new ones get the numbers that follow."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alias: dict[int, int] = {}
        self.last = 0

    def result(self, root: Collected) -> Any:
        self.world.values[0] = self._value(root, self._add(root.jobs))
        resolve = self._resolver(self.world.values[0].refs)
        return resolve(0, ()) if root.alias else loads(root.value.data, resolve)

    def _value(self, parts: Any, first: int) -> Value:
        return Value(blob=parts.value, refs=[first + ref for ref in parts.refs], label="")

    def _add(self, jobs: list[NewJob]) -> int:
        """Number new jobs and run them, depth first; the number of the first."""
        first = self.last + 1
        self.last += len(jobs)
        for position, new in enumerate(jobs):
            self._run(first + position, new, [first + need for need in new.needs])
        return first

    def _run(self, number: int, new: NewJob, needs: list[int]) -> None:
        followed = [self._follow(need) for need in needs]
        attempt = self.world.attempt(new, number, followed)
        outcome = self.world.run(attempt)
        assert outcome.reason == "FINISHED", outcome.message
        first = self._add(outcome.jobs)
        if outcome.alias:
            self.alias[number] = first + outcome.refs[0]
        else:
            refs = [self._follow(first + ref) for ref in outcome.refs]
            self.world.values[number] = Value(blob=outcome.value, refs=refs, label=f"{new.name} [job {number}]")

    def _follow(self, number: int) -> int:
        while number in self.alias:
            number = self.alias[number]
        return number

    def _resolver(self, refs: list[int]) -> Any:
        from orch.work.values import Values

        values = Values(self.world.values, self.world.bytes, "the result")
        followed = [self._follow(ref) for ref in refs]
        values.load(followed)
        return lambda number, path: values.part(followed[number], path)
