"""HyperQueue: a server and a worker, started by its Python package, which has them built in; without a journal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import AT_ONCE, Workload, by_itself, directory, drive, form, fresh
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def same(number: int) -> int:
    """A job; HyperQueue does not keep its value."""
    return number


def add(job: Job, number: int, after: list[Any]) -> Any:
    """One more task, as the form says."""
    if form() == "command":
        return job.program(["true"], deps=after)
    return job.function(same, args=(number,), deps=after)


def until(file: Path) -> None:
    """Wait for what the last task makes: the client itself looks once a second."""
    while not file.exists():
        time.sleep(0.001)


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """The cluster. Output is captured in files, as it is by default."""
    with directory("server") as place, LocalCluster(str(place), WorkerConfig(cores=AT_ONCE)) as cluster:
        client = cluster.client()

        def all_of(size: int, *, linked: bool) -> None:
            job = Job()
            tasks: list[Any] = []
            for number in range(size):
                tasks.append(add(job, number, tasks[-1:] if linked else []))
            over = fresh("hyperqueue") / "over"
            job.program(["touch", str(over)], deps=tasks[-1:] if linked else tasks)
            client.submit(job)
            until(over)

        yield {"jobs": lambda size: all_of(size, linked=False), "chain": lambda size: all_of(size, linked=True)}


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs")})
