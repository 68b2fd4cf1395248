"""What `list`, `status` and `replay` say of a run, for people and as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from orch.bus.events import Resources
from orch.sizes import format_duration, format_size
from orch.state.model import Job, State
from orch.state.status import JobStatus, statuses
from orch.summary import Summary, summarize


class Picture(Summary, frozen=True):
    """A run with its jobs by id: what `replay --json` and `status --json` print."""

    jobs: dict[str, JobStatus]


def picture(state: State, alive: bool | None, only: str = "") -> Picture:
    """The run and its jobs, or those in one state."""
    jobs = {job: status for job, status in statuses(state).items() if only in ("", status.state)}
    return Picture(**msgspec.structs.asdict(summarize(state, alive=alive)), jobs=jobs)


def counts_line(summary: Summary) -> str:
    """As "120: 100 done, 20 waiting", to stand behind the word "jobs"."""
    parts = [f"{count} {name}" for name, count in summary.counts.items() if count]
    return f"{summary.jobs_total}: {', '.join(parts)}" if parts else str(summary.jobs_total)


def wants(row: Job) -> str:
    """What a job asks for."""
    return asks(row.resources)


def asks(resources: Resources) -> str:
    """What an attempt asks for, in a few words."""
    sizes = (("memory", resources.memory), ("disk", resources.disk))
    parts = [f"{resources.cores:g} cores", *(f"{format_size(size)} of {name}" for name, size in sizes if size)]
    if resources.walltime:
        parts.append(f"{format_duration(resources.walltime)} of time")
    parts += [f"{one.count} {one.model or one.kind}" for one in resources.accelerators]
    return ", ".join([*parts, *(["preemptible"] if resources.preemptible else [])])


def as_json(value: Any) -> str:
    """Any of the records above, as one line."""
    return msgspec.json.encode(value).decode()


def leader_alive(directory: Path) -> bool | None:
    """Does somebody hold the lock of the run whose log is `directory`? None where there is no lock to look at."""
    lock = f"{directory.parent}/lock"
    try:
        if not os.stat(lock).st_size:  # nobody has signed it
            return False
    except FileNotFoundError:
        return None
    from orch.bus.lock import RunLock

    return RunLock(Path(lock)).holder() is not None


class Told(NamedTuple):
    """What the leader has kept. `jobs`: some, of a run with many events. `whole`: nothing has happened since."""

    summary: Summary
    jobs: list[JobStatus]
    whole: bool


def kept_summary(directory: Path) -> Told | None:
    """The summary that is kept beside a log, if it can be believed; None: the log has to be folded.

    One that the log has outgrown is a moment old while the run is led, and nothing afterwards.
    """
    from orch.summaries import read

    found = read(directory)
    if found is None:
        return None
    kept, whole = found
    alive = leader_alive(directory)
    if not whole and not alive:
        return None
    state = kept.left if alive is False else kept.summary.state
    leader = msgspec.structs.replace(kept.summary.leader, alive=alive)
    return Told(msgspec.structs.replace(kept.summary, state=state, leader=leader), kept.jobs, whole)
