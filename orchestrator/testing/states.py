"""Looking at a whole state: pictures to compare, and the invariants, recomputed from scratch."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orch.bus.events import JobId
from orch.state.law import LIVE, JobState
from orch.state.model import Job, State

S = JobState

Picture = dict[str, Any]


def snapshot(state: State) -> Picture:
    """Every field of a state, as plain data that does not change when the state does. Order counts, of indexes too."""
    picture: Picture = {name: _copy(value) for name, value in vars(state).items() if name not in ("jobs", "workflow")}
    picture["workflow"] = _row(state.workflow)
    for row in state.jobs.values():
        picture[f"job {row.id}"] = _row(row)
    return picture


def difference(one: Picture, other: Picture) -> list[str]:
    """What differs between two snapshots, a line each."""
    lines = []
    for key in dict.fromkeys([*one, *other]):
        left, right = one.get(key), other.get(key)
        if left == right:
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            fields = dict.fromkeys([*left, *right])
            lines += [f"{key}.{f}: {left.get(f)!r} != {right.get(f)!r}" for f in fields if left.get(f) != right.get(f)]
        else:
            lines.append(f"{key}: {left!r} != {right!r}")
    return lines


def _row(row: Job) -> dict[str, Any]:
    return {name: _copy(getattr(row, name)) for name in Job.__slots__}


def _copy(value: Any) -> Any:
    """Containers by value; an index (whose values are None) as the list of its keys, since its order counts."""
    if isinstance(value, dict):
        if value and all(entry is None for entry in value.values()):
            return list(value)
        return {key: _copy(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, list) else value


def problems(state: State) -> list[str]:
    """Every way in which the counts and indexes of `state` differ from what its jobs and their needs say."""
    return [*_index_problems(state), *_graph_problems(state)]


def check(state: State) -> None:
    """Raises AssertionError, naming all `problems`."""
    found = problems(state)
    if found:
        raise AssertionError(f"after event {state.seq}:\n" + "\n".join(found))


def _index_problems(state: State) -> list[str]:
    rows = state.jobs
    by_state = Counter(row.state for row in rows.values())
    provisional = [job for jobs in state.provisional.values() for job in jobs]
    expected = {
        "counts": ({s: n for s, n in state.counts.items() if n}, dict(by_state)),
        "ready": (sorted(state.ready), _ids(state, {S.READY})),
        "live": (sorted(state.live), _ids(state, LIVE)),
        "failed": (sorted(state.failed), _ids(state, {S.FAILED})),
        "provisional": (sorted(provisional), _ids(state, {S.ADDED})),
        "keys": ([job for job, row in rows.items() if row.id != job], []),
        "next_job": (state.next_job > max(rows, default=0), True),
    }
    return [f"{name}: {got} != {want}" for name, (got, want) in expected.items() if got != want]


def _ids(state: State, states: set[JobState] | frozenset[JobState]) -> list[JobId]:
    return sorted(row.id for row in state.jobs.values() if row.state in states)


def waits_for(state: State, row: Job) -> list[JobId]:
    """What keeps a job from going on: needs before its body has run, jobs in its value afterwards; not done ones."""
    if row.state is S.ADDED or row.state is S.DONE:
        return []
    wanted = list(dict.fromkeys(row.refs)) if row.state is S.SUCCEEDED else row.needs
    return [job for job in wanted if state.jobs[job].state is not S.DONE]


def dead(state: State) -> set[JobId]:
    """Jobs that cannot become done: failed and cancelled ones, and all that waits for one that cannot, from scratch."""
    found = set(_ids(state, {S.FAILED, S.CANCELLED}))
    users: dict[JobId, list[JobId]] = {}
    for row in state.jobs.values():
        for job in waits_for(state, row):
            users.setdefault(job, []).append(row.id)
    todo = list(found)
    while todo:
        for user in users.get(todo.pop(), ()):
            if user not in found:
                found.add(user)
                todo.append(user)
    return found


def _graph_problems(state: State) -> list[str]:
    gone = dead(state)
    users: dict[JobId, Counter[JobId]] = {job: Counter() for job in state.jobs}
    committed = [row for row in state.jobs.values() if row.state is not S.ADDED]
    if state.planned is not None:
        committed.append(state.workflow)
    found = []
    for row in committed:
        waits = waits_for(state, row)
        for job in waits:
            users[job][row.id] += 1
        found += _row_problems(row, waits, gone)
    for row in state.jobs.values():
        if Counter(row.users) != users[row.id]:
            found.append(f"job {row.id} ({row.state}): users {row.users} != {sorted(users[row.id].elements())}")
        if row.state is S.SKIPPED and state.jobs[row.because].state not in (S.FAILED, S.CANCELLED):
            found.append(f"job {row.id} is skipped because of job {row.because}, which has not failed")
    return found


def _row_problems(row: Job, waits: list[JobId], gone: set[JobId]) -> list[str]:
    after = row.state in (S.SUCCEEDED, S.DONE)
    wanted: dict[str, tuple[Any, Any]] = {
        "missing": (row.missing, 0 if after else len(waits)),
        "pending": (row.pending, len(waits) if after else 0),
        "doomed": (row.doomed, sum(job in gone for job in waits)),
    }
    if row.id:  # the workflow itself stays "succeeded": its value is the run's, and nothing waits for it
        wanted["waiting for nothing"] = (row.state is S.SUCCEEDED and not waits, False)
        wanted["done, still an alias"] = (row.state is S.DONE and row.alias, False)
    wanted["waits"] = (row.state in (S.WAITING, S.SKIPPED), bool(waits) and row.state not in (S.SUCCEEDED, S.CANCELLED))
    wanted["skipped"] = (row.state is S.SKIPPED, row.id in gone and row.state in (S.WAITING, S.SKIPPED))
    wanted["blamed"] = (bool(row.because), True) if row.state is S.SKIPPED else (False, False)
    return [
        f"job {row.id} ({row.state}): {name} {got} != {want}" for name, (got, want) in wanted.items() if got != want
    ]
