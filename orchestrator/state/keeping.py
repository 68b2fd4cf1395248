"""Files that are kept for a while: who may still need them, and when nobody does any more.

What a job wrote for its successors only is needed until the job is done, and all that may have got hold of it: what
takes its value, and, where one of those hands the files on in its own value, what takes that. What stands in the
workflow's own value, or may have gone to a service, is kept as long as the run.
"""

from __future__ import annotations

from orch.bus.events import JobId, StoredFile
from orch.state.model import WORKFLOW, Job, State


def keep(state: State, row: Job, files: list[StoredFile]) -> None:
    """A job has left files; its value is about to be known."""
    paths = [file.path for file in files if file.keep == "successors"]
    if not paths:
        return
    users = _takers(state, row)
    if users is not None:
        state.kept[row.id] = paths
        state.keeping[row.id] = set()
        _need(state, row.id, users | {row.id})


def hand_on(state: State, row: Job, holds: list[JobId]) -> None:
    """The value of `row` names files of these jobs."""
    users = _takers(state, row)
    for job in holds:
        if job not in state.keeping:
            continue
        if users is None:
            forget(state, job)
        else:
            _need(state, job, users)


def over(state: State, row: Job) -> None:
    """`row` is done: it needs nothing more."""
    for job in state.needing.pop(row.id, ()):
        needed_by = state.keeping.get(job)
        if needed_by is not None:
            needed_by.discard(row.id)
            if not needed_by:
                state.removable[job] = None


def forget(state: State, job: JobId) -> None:
    """Keep the files of a job as long as the run."""
    state.keeping.pop(job, None)
    state.kept.pop(job, None)
    state.removable.pop(job, None)


def _need(state: State, job: JobId, users: set[JobId]) -> None:
    for user in sorted(users - state.keeping[job]):
        state.keeping[job].add(user)
        state.needing.setdefault(user, []).append(job)


def _takers(state: State, row: Job) -> set[JobId] | None:
    """Whoever may get the value of `row` before it is done; None: it may go anywhere."""
    found: set[JobId] = set()
    todo = [row]
    while todo:
        each = todo.pop()
        for job in (*each.users, *each.holders):
            other = state.row(job)
            if job == WORKFLOW or other.form == "service":
                return None
            if job not in found:
                found.add(job)
                if other.form == "group" or job in each.holders:  # its value is, or has, that of `each`
                    todo.append(other)
    return found
