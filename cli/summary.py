"""A run in a few words: what `list`, `status` and `replay` say of it, for people and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from orch.bus.events import Resources
from orch.sizes import format_duration, format_size
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.status import JobStatus, statuses

SHOWN = [state for state in JobState if state is not JobState.ADDED]


class LeaderInfo(msgspec.Struct, frozen=True):
    """The latest leader. `alive`: does it hold the run's lock; null where that cannot be known (a copied log)."""

    host: str
    pid: int
    since: str
    epoch: int
    alive: bool | None


class Summary(msgspec.Struct, frozen=True):
    """A run. Times are UTC, ISO 8601; empty where there is none. `counts`: jobs in each state."""

    run: str
    name: str
    state: str
    seq: int
    jobs_total: int
    counts: dict[str, int]
    started: str
    ended: str
    tags: dict[str, str]
    source: str
    adapter: str
    leader: LeaderInfo
    warnings: list[str]


class Picture(Summary, frozen=True):
    """A run with its jobs by id: what `replay --json` and `status --json` print."""

    jobs: dict[str, JobStatus]


def summarize(state: State, alive: bool | None) -> Summary:
    """The run in a few words."""
    created = state.created
    counts = {one.value: state.counts[one] for one in SHOWN}
    host, pid, since = state.leader
    return Summary(
        run=created.run if created else "",
        name=created.name if created else "",
        state=run_state(state, alive),
        seq=state.seq,
        jobs_total=sum(counts.values()),
        counts=counts,
        started=created.time if created else "",
        ended=state.time if state.outcome else "",
        tags=created.tags if created else {},
        source=created.source if created else "",
        adapter=created.adapter if created else "",
        leader=LeaderInfo(host=host, pid=pid, since=since, epoch=state.epoch, alive=alive),
        warnings=state.warnings,
    )


def picture(state: State, alive: bool | None, only: str = "") -> Picture:
    """The run and its jobs, or those in one state."""
    jobs = {job: status for job, status in statuses(state).items() if only in ("", status.state)}
    return Picture(**msgspec.structs.asdict(summarize(state, alive)), jobs=jobs)


def run_state(state: State, alive: bool | None) -> str:
    """One word for the run.

    With an outcome: succeeded, failed, cancelled. Else cancelling, stopping, paused or running while it is led, and
    stopped or interrupted (the leader went away without a word) when it is not.
    """
    if state.outcome:
        return state.outcome
    if state.closed or alive is False:
        return "stopped" if state.closed == "stopped" else "interrupted"
    if state.cancelling:
        return "cancelling"
    if state.stopping:
        return "stopping"
    if state.paused:
        return "paused"
    return "running" if state.planned else "starting"


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
    from orch.bus.lock import RunLock

    lock = directory.parent / "lock"
    if not lock.exists():
        return None
    return RunLock(lock).holder() is not None
