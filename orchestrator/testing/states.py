"""Looking at a whole state: pictures to compare, and the invariants, recomputed from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from orch.bus.events import JobId
from orch.state import graph
from orch.state.law import DEAD, LIVE, JobState
from orch.state.model import WORKFLOW, Job, Made, State
from orch.state.queue import Queue

S = JobState

Picture = dict[str, Any]

HAS_RUN = (S.SUCCEEDED, S.DONE, S.DROPPED)


def snapshot(state: State) -> Picture:
    """Every field of a state, as plain data that does not change when the state does. Order counts, of indexes too."""
    names = [name for name in State.__struct_fields__ if name not in ("jobs", "workflow")]
    picture: Picture = {name: _copy(getattr(state, name)) for name in names}
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
    return {name: _copy(getattr(row, name)) for name in Job.__struct_fields__}


def _copy(value: Any) -> Any:
    """Containers by value; an index (whose values are None) as the list of its keys, since its order counts."""
    if isinstance(value, Queue):
        return list(value)
    if isinstance(value, Made):
        return list(value.jobs), list(value.services)
    if isinstance(value, dict):
        if value and all(entry is None for entry in value.values()):
            return list(value)
        return {key: _copy(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, list | tuple) else set(value) if isinstance(value, set) else value


def problems(state: State) -> list[str]:
    """Every way in which the counts and indexes of `state` differ from what its jobs and their relations say."""
    return [*_index_problems(state), *_Graph(state).problems()]


def check(state: State) -> None:
    """Raises AssertionError, naming all `problems`."""
    found = problems(state)
    if found:
        raise AssertionError(f"after event {state.seq}:\n" + "\n".join(found))


def _index_problems(state: State) -> list[str]:
    rows = state.jobs
    by_state = Counter(row.state for row in rows.values())
    provisional = [job for made in state.provisional.values() for job in made.jobs]
    live = [rows[job] for job in state.live]
    lanes = Counter(row.lane for row in live if not row.after)
    expected = {
        "counts": ({s: n for s, n in state.counts.items() if n}, dict(by_state)),
        "ready": (sorted([*state.ready, *state.delayed, *state.surveyed]), _ids(state, {S.READY})),
        "live": (sorted(state.live), _ids(state, LIVE)),
        "failed": (sorted(state.failed), _ids(state, {S.FAILED})),
        "provisional": (sorted(provisional), _ids(state, {S.ADDED})),
        "keys": ([job for job, row in rows.items() if row.id != job], []),
        "next_job": (state.next_job > max(rows, default=0), True),
        "lanes": ({lane: n for lane, n in state.lanes.items() if n}, dict(lanes)),
        "links": (state.links, sum(bool(row.after) for row in live)),
        "chains": ([row.id for row in rows.values() if row.after and rows[row.after].link != row.id], []),
        "ends of chains": ([row.id for row in rows.values() if row.link and rows[row.link].after != row.id], []),
        "stale": ([job for job in state.stale if job not in state.live], []),
        "held": ([job for job in state.held if rows[job].state is not S.WAITING], []),
        "without a service": (
            [row.id for row in live if row.id not in state.stale and _lacks_a_service(state, row)],
            [],
        ),
        "unwanted": (sorted(state.unwanted), sorted(row.id for row in rows.values() if row.unwanted)),
    }
    return [f"{name}: {got} != {want}" for name, (got, want) in expected.items() if got != want]


def _lacks_a_service(state: State, row: Job) -> bool:
    """Does it run with credentials of a service that is gone?"""
    services = [state.jobs[need] for need in row.needs if state.jobs[need].form == "service"]
    return not row.unwanted and not all(service.valued for service in services)


def _ids(state: State, states: Iterable[JobState]) -> list[JobId]:
    wanted = set(states)
    return sorted(row.id for row in state.jobs.values() if row.state in wanted)


def dead(state: State) -> set[JobId]:
    """Jobs that cannot become done as things stand: failed and cancelled ones, and all that has to do with one."""
    whole = _Graph(state)
    return {row.id for row in state.jobs.values() if row.state is not S.DROPPED and whole.hopeless(row)}


def _gone(row: Job) -> bool:
    """Is it dropped, or will it be when its attempt has ended? Then nothing follows from it."""
    return row.state is S.DROPPED or row.unwanted > 0


class _Graph:
    """The same as `orch.state.graph`, by looking at everything each time."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.rows = [row for row in state.jobs.values() if row.state is not S.ADDED]
        if state.planned is not None:
            self.rows.append(state.workflow)
        self.below: dict[JobId, list[tuple[Job, int]]] = {row.id: [] for row in self.rows}
        for row in self.rows:
            if row.id != WORKFLOW and not _gone(row):
                for superior, role in graph.superiors(state, row):
                    self.below[superior.id].append((row, role))
        self._told: dict[JobId, int] = {}

    def problems(self) -> list[str]:
        found = []
        watched = self._watchers()
        for row in self.rows:
            if not _gone(row):
                found += self._row_problems(row)
                found += [
                    f"job {row.id} ({row.state}): {name} {getattr(row, name)} != {sorted(want.elements())}"
                    for name, want in watched[row.id].items()
                    if Counter(getattr(row, name)) != want
                ]
        return found

    def _row_problems(self, row: Job) -> list[str]:
        below = self.below[row.id]
        succeeded = row.state in (S.SUCCEEDED, S.DONE)
        others = [member for member, role in below if role != graph.SERVICE]
        children = [member for member, role in below if role == graph.CHILD]
        services = [member for member, role in below if role == graph.SERVICE and row.state is not S.DONE]
        before = self._before(row)
        wanted: dict[str, tuple[Any, Any]] = {
            "open": (row.open, sum(member.state is not S.DONE for member in children)),
            "unsettled": (row.unsettled, sum(not self._is(member, graph.SETTLED) for member in others)),
            "serving": (row.serving, sum(not self._is(member, graph.SETTLED) for member in services)),
            "hurt": (row.hurt, sum(self._is(member, graph.BAD) for member in (*others, *services))),
            "lame": (row.lame, sum(self._is(member, graph.BAD) for member in children)),
            "barred": (row.barred, sum(self._is(member, graph.BAD) for member in services)),
            "told": (row.told, self._tells(row)),
            "missing": (row.missing, 0 if succeeded else sum(not there for there, _ in before)),
            "doomed": (row.doomed, self._doomed(row, before)),
            "pending": (row.pending, self._pending(row) if succeeded else 0),
            "over": (row.over, succeeded and row.opened and not any(m.state is not S.DONE for m in children)),
        }
        if row.form != "service" and not row.checkpoint:
            wanted["valued"] = (row.valued, succeeded and not self._pending(row))
        if row.id not in self.state.services:
            wanted["opened"] = (row.opened, succeeded)
        if row.id:
            wanted |= self._of_jobs(row, succeeded)
        return [
            f"job {row.id} ({row.state}): {name} {got} != {want}" for name, (got, want) in wanted.items() if got != want
        ]

    def _of_jobs(self, row: Job, succeeded: bool) -> dict[str, tuple[Any, Any]]:  # noqa: FBT001 - as it was computed
        """What the workflow itself never comes to."""
        over = not (row.unsettled or row.serving or row.hurt) and row.valued
        return {
            "done": (row.state is S.DONE, succeeded and over),
            "done, still an alias": (row.state is S.DONE and row.alias, False),
            "waits": (row.state is S.WAITING, row.state is S.WAITING and row.missing > 0 and not row.doomed),
            "skipped": (row.state is S.SKIPPED, row.state is S.SKIPPED and row.doomed > 0),
            "blamed": (row.state is S.SKIPPED and not row.because, False),
            "idle": (row.id in self.state.idle, self._is_idle(row)),
        }

    def _is_idle(self, row: Job) -> bool:
        """Is a service of it not over, and nothing below it?"""
        if row.state is S.DONE:
            return any(role == graph.SERVICE and not self._is(m, graph.SETTLED) for m, role in self.below[row.id])
        return row.state is S.SUCCEEDED and row.serving > 0 and not row.unsettled

    def _before(self, row: Job) -> list[tuple[bool, bool]]:
        """What a job waits for before it starts: is it there, and can it never be?"""
        jobs = self.state.jobs
        found = [(jobs[need].valued, self._is(jobs[need], graph.VALUELESS)) for need in row.needs]
        for parent in map(self.state.row, row.parents):
            if row.serves >= 0:
                found.append((parent.valued, self._is(parent, graph.VALUELESS)))
            else:
                found.append((parent.opened, self._is(parent, graph.CLOSED)))
        found += [(other.over, self._is(other, graph.LAME)) for other in map(self.state.row, row.follows)]
        if row.serves >= 0:
            host = self.state.row(row.serves)
            found.append((host.state in (S.SUCCEEDED, S.DONE), host.state in DEAD))
        elif not row.parents and not row.follows and row.id and graph.after_services(self.state, row.by, row.id):
            maker = self.state.row(row.by)
            found.append((maker.opened, self._is(maker, graph.CLOSED)))
        found += [(False, False) for job in self.state.unwanted if jobs[job].unwanted == row.id]
        return found

    def _doomed(self, row: Job, before: list[tuple[bool, bool]]) -> int:
        if row.state in (S.SUCCEEDED, S.DONE):
            refs = [] if row.valued else dict.fromkeys(row.refs)
            return sum(self._is(self.state.jobs[ref], graph.VALUELESS) for ref in refs)
        return sum(hopeless and not there for there, hopeless in before)

    def _pending(self, row: Job) -> int:
        if row.valued and (row.form == "service" or row.checkpoint):
            return 0
        return sum(not self.state.jobs[ref].valued for ref in dict.fromkeys(row.refs))

    def hopeless(self, row: Job) -> bool:
        """Can it not become done?"""
        return self._is(row, graph.BAD) or self._is(row, graph.VALUELESS)

    def _is(self, row: Job, what: int) -> bool:
        return bool(self._tells(row) & what)

    def _tells(self, row: Job) -> int:
        """What a job tells those around it, from what is below it. Deep graphs would need more than recursion."""
        if row.id not in self._told:
            self._told[row.id] = self._computed(row)
        return self._told[row.id]

    def _computed(self, row: Job) -> int:
        if row.state is S.DONE:
            return graph.SETTLED | graph.DONE_TOLD
        if row.state not in DEAD and row.state is not S.SUCCEEDED:
            return 0
        below = self.below[row.id]
        settled = all(self._is(member, graph.SETTLED) for member, _ in below)
        told = graph.SETTLED if settled else 0
        if row.state in DEAD:
            told |= graph.BAD | graph.CLOSED | graph.LAME
            return told if row.valued else told | graph.VALUELESS
        bad = {role for member, role in below if self._is(member, graph.BAD)}
        if bad:
            told |= graph.BAD
        if graph.SERVICE in bad and not row.opened:
            told |= graph.CLOSED | graph.LAME
        if graph.CHILD in bad:
            told |= graph.LAME
        if not row.valued and any(self._is(self.state.jobs[ref], graph.VALUELESS) for ref in row.refs):
            told |= graph.VALUELESS
        return told

    def _watchers(self) -> dict[JobId, dict[str, Counter[JobId]]]:
        """Who must be told of each job."""
        found: dict[JobId, dict[str, Counter[JobId]]] = {
            row.id: {name: Counter() for name in ("users", "holders", "children", "followers")} for row in self.rows
        }
        for row in self.rows:
            if _gone(row):
                continue
            waits = row.state not in HAS_RUN
            service = row.serves >= 0
            for need in row.needs if row.id else ():
                self._watch(found, need, "users", row, waits and not self.state.jobs[need].valued)
            for parent in row.parents:
                if service:
                    self._watch(found, parent, "users", row, waits and not self.state.jobs[parent].valued)
                else:
                    found[parent]["children"][row.id] += not self.state.row(parent).opened
            for followed in row.follows:
                found[followed]["followers"][row.id] += not self.state.row(followed).over
            alone = not (row.parents or row.follows or service) and row.id != WORKFLOW
            if alone and graph.after_services(self.state, row.by, row.id):
                found[row.by]["children"][row.id] += not self.state.row(row.by).opened
            if row.state in (S.SUCCEEDED, S.DONE) and not row.valued:
                for ref in dict.fromkeys(row.refs):
                    found[ref]["holders"][row.id] += not self.state.jobs[ref].valued
        return {job: {name: +count for name, count in names.items()} for job, names in found.items()}

    def _watch(
        self,
        found: dict[JobId, dict[str, Counter[JobId]]],
        job: JobId,
        name: str,
        row: Job,
        waits: bool,  # noqa: FBT001 - as it was computed
    ) -> None:
        """A service is watched for ever: it may be lost."""
        found[job][name][row.id] += waits or self.state.jobs[job].form == "service"
