"""What follows in the graph when something has become of a job.

A job tells those around it five things about itself, each of which may become true, and most of which may become
untrue again: that nothing is left to do in it or below it, that it cannot become done, that its value will never be
known, that its children cannot start, that its follow-ons cannot. `ripple` looks at a job, changes its state as far as
that follows from its counts, tells the others what is new (`told` is what they know), and looks at those in turn.
With a list instead of recursion, and only where a count has reached or left zero: the cost is that of what changed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from orch.bus.events import JobId
from orch.state import keeping
from orch.state.law import DEAD, LIVE, TRANSITIONS, JobState
from orch.state.model import MOMENTS, NONE, SOME, WORKFLOW, Job, Jobs, State

S = JobState
READY, WAITING, SUCCEEDED, DONE = S.READY, S.WAITING, S.SUCCEEDED, S.DONE

# What a job tells of itself.
SETTLED = 1  # nothing is left to do in it or below it
DONE_TOLD = 2
BAD = 4  # it cannot become done
VALUELESS = 8  # its value will never be known
CLOSED = 16  # its children cannot start
LAME = 32  # its follow-ons cannot

CHILD, FOLLOW_ON, SERVICE = 1, 2, 3


class IllegalTransition(Exception):
    """An event that the law forbids: the log is not one that a leader has written."""


def move(state: State, job: Job, new: JobState, time: str) -> None:
    """Put `job` into state `new`, and keep the counts and indexes."""
    old = job.state
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"job {job.label} cannot go from {old} to {new}")
    counts = state.counts
    counts[old] -= 1
    counts[new] += 1
    if old is READY:
        set_forth(state, job)
    held = state.held.pop(job.id, None) if state.held else None
    if new is READY and held is not None:
        state.delayed[job.id] = held
    elif new is READY:
        state.ready.add(job)
    job.state = new
    setattr(job, MOMENTS[new], time)


def set_forth(state: State, job: Job) -> None:
    """Take a job that is ready out of whatever index it stands in."""
    if job.id in state.delayed:
        del state.delayed[job.id]
    elif job.id in state.surveyed:
        del state.surveyed[job.id]
    else:
        state.ready.discard(job)


def superiors(state: State, job: Job) -> Iterator[tuple[Job, int]]:
    """The jobs below which this one is, and as what."""
    if job.serves >= 0:
        yield state.row(job.serves), SERVICE
    elif job.parents or job.follows:
        for parent in job.parents:
            yield state.row(parent), CHILD
        for followed in job.follows:
            yield state.row(followed), FOLLOW_ON
    elif job.id != WORKFLOW:
        yield state.row(job.by), CHILD


# New jobs ---------------------------------------------------------------------------------------------------------


def _watch(watchers: Jobs, job: Job) -> Jobs:
    if isinstance(watchers, list):
        watchers.append(job.id)
        return watchers
    return [job.id]


def connect(state: State, job: Job) -> None:
    """Enter a new job into the graph: what it waits for, and what waits for it."""
    for position, need in enumerate(job.needs):
        other = state.jobs[need]
        if not other.valued:
            job.missing += 1
            job.doomed += bool(other.told & VALUELESS)
        if not other.valued or other.form == "service":
            other.users = _watch(other.users, job)
        if position % SOME == SOME - 1:
            state.cool()
    for parent in job.parents:
        if job.serves >= 0:
            _need_service(state.jobs[parent], job)
        else:
            _wait_to_open(state.row(parent), job)
    for followed in job.follows:
        other = state.row(followed)
        if not other.over:
            job.missing += 1
            job.doomed += bool(other.told & LAME)
            other.followers = _watch(other.followers, job)
    for superior, role in superiors(state, job):
        _put_below(state, superior, job, role)


def _need_service(service: Job, job: Job) -> None:
    service.users = _watch(service.users, job)
    if not service.valued:
        job.missing += 1
        job.doomed += bool(service.told & VALUELESS)


def _wait_to_open(parent: Job, job: Job) -> None:
    if not parent.opened:
        job.missing += 1
        job.doomed += bool(parent.told & CLOSED)
        parent.children = _watch(parent.children, job)


def _put_below(state: State, superior: Job, job: Job, role: int) -> None:
    if role == SERVICE:
        superior.serving += 1
        if superior.state is not SUCCEEDED:  # it starts after that body
            job.missing += 1
            job.doomed += bool(superior.told & CLOSED)
        return
    superior.unsettled += 1
    if role == CHILD:
        superior.open += 1
        if not job.parents and after_services(state, superior.id, job.id):
            _wait_to_open(superior, job)


def after_services(state: State, maker: JobId, job: JobId) -> bool:
    """Does a job without a place of its own wait for its maker's services?

    Not if it comes before the first of those that were made with it: a service may need it.
    """
    services = state.services.get(maker)
    if services is None:
        return False
    beside = bisect.bisect_left(services, state.row(maker).made_from)
    return beside == len(services) or services[beside] < job


# What follows -----------------------------------------------------------------------------------------------------


def ripple(state: State, first: list[Job], time: str) -> None:
    """Bring about everything that follows from what has become of these jobs."""
    todo = first
    for job in todo:  # grows while it is walked
        if job.state is S.DROPPED or job.unwanted:
            continue  # all around it is dropped as well
        if job.state is S.SKIPPED and not job.doomed:
            job.because = WORKFLOW
            move(state, job, WAITING, time)
        if job.told:  # what is not true any more is taken back first, while those who were told are still known
            _tell(state, job, _to_tell(job), todo)
        _advance(state, job, todo, time)
        told = _to_tell(job)
        if told != job.told:
            _tell(state, job, told, todo)
        if job.id in state.services:
            _consider_services(state, job)


def _advance(state: State, job: Job, todo: list[Job], time: str) -> None:
    """What follows from a job's own counts."""
    if job.state is WAITING:
        if job.doomed:
            job.because = job.because or find_cause(state, job)
            move(state, job, S.SKIPPED, time)
        elif not job.missing:
            if job.form == "group":
                _pass_group(state, job, todo, time)
            else:
                move(state, job, READY, time)
    if job.state is SUCCEEDED:
        _after_body(state, job, todo, time)


def _pass_group(state: State, job: Job, todo: list[Job], time: str) -> None:
    """A job without a body: it has run as soon as it could."""
    if job.needs:
        value = state.jobs[job.needs[0]]
        job.value_seq, job.refs = value.value_seq, value.refs
    has_succeeded(state, job, todo, time)


def has_succeeded(state: State, job: Job, todo: list[Job], time: str) -> None:
    """The body has run, or there is none: its services may start."""
    move(state, job, SUCCEEDED, time)
    job.missing = job.doomed = 0
    job.because = WORKFLOW
    if job.id in state.services:
        satisfy(state, state.services[job.id], todo)


def is_leaf(state: State, job: Job) -> bool:
    """Does nobody wait for this job, but for its value to stand in another, and is it but a child of its maker?

    Most are: the workflow's value has a list of them.
    """
    return not (
        job.users or job.children or job.followers or job.unsettled or job.pending or job.hurt
        or job.serving or job.parents or job.follows or job.serves >= 0 or job.alias or job.link
        or state.needing or state.calls or job.id in state.services
    )  # fmt: skip


def finish_leaf(state: State, job: Job, todo: list[Job], time: str) -> None:
    """The body of a leaf has succeeded: the short way to what `has_succeeded` and `ripple` would come to.

    What the job above it learns is entered here as well; `todo`: it, if something may follow for it.
    """
    state.counts[job.state] -= 1
    state.counts[DONE] += 1
    job.state = DONE
    job.succeeded_at = job.over_at = time
    job.valued = job.opened = job.over = True
    if job.because:
        job.because = WORKFLOW
    if job.missing or job.doomed:  # it was quicker than the news that a service of its own was lost
        job.missing = job.doomed = 0
    job.told = SETTLED | DONE_TOLD
    if job.holders:
        _fill(state, job, todo)
    maker = state.workflow if job.by == WORKFLOW else state.jobs[job.by]
    maker.unsettled -= 1
    maker.open -= 1
    if not maker.unsettled or not maker.open:
        todo.append(maker)


def _fill(state: State, job: Job, todo: list[Job]) -> None:
    """The value of `job` is known to those in whose values it stands."""
    holders, job.holders = job.holders, NONE
    for holder in holders:
        row = state.row(holder)
        row.pending -= 1
        if not row.pending:
            todo.append(row)


def _after_body(state: State, job: Job, todo: list[Job], time: str) -> None:
    if not job.valued and not job.pending:
        make_known(state, job, todo)
    if not job.opened and (job.id not in state.services or _services_are_up(state, job)):
        open_up(state, job, todo)
    if job.opened and not job.over and not job.open:
        job.over = True
        followers, job.followers = job.followers, NONE
        satisfy(state, followers, todo)
    if job.valued and not (job.unsettled or job.hurt or job.serving) and job.id != WORKFLOW:
        move(state, job, DONE, time)
        if state.needing:
            keeping.over(state, job)
        if job.id in state.calls:
            state.called.append(job.id)


def open_up(state: State, job: Job, todo: list[Job]) -> None:
    """Its children may start."""
    job.opened = True
    children, job.children = job.children, NONE
    satisfy(state, children, todo)


def _services_are_up(state: State, job: Job) -> bool:
    return all(state.jobs[service].valued for service in state.services[job.id])


def hold(state: State, job: Job, refs: list[JobId]) -> None:
    """A body has left its value: it is known when all that stands in it is."""
    job.refs = refs
    for position, ref in enumerate(dict.fromkeys(refs)):
        other = state.jobs[ref]
        if not other.valued:
            other.holders = _watch(other.holders, job)
            job.pending += 1
            job.doomed += bool(other.told & VALUELESS)
        if not position % SOME:
            state.cool()


def make_known(state: State, job: Job, todo: list[Job]) -> None:
    """The value of `job` is known: what waited for it may go on."""
    if job.alias:
        target = state.jobs[job.refs[0]]
        job.value_seq, job.refs, job.alias = target.value_seq, target.refs, False
    job.valued = True
    _fill(state, job, todo)
    if job.form == "service":
        satisfy(state, [user for user in job.users if not _has_run(state.jobs[user])], todo)
    else:
        users, job.users = job.users, NONE
        satisfy(state, users, todo)


def make_unknown(state: State, service: Job, todo: list[Job], time: str) -> None:
    """A service is not there any more: who has its credentials must get new ones."""
    if not service.valued:
        return
    service.valued = False
    for user in service.users:
        row = state.jobs[user]
        if _has_run(row):
            continue
        row.missing += 1
        if row.state is READY:
            survey_again(state, row)
            delayed = state.delayed.get(row.id)
            move(state, row, WAITING, time)
            if delayed is not None:  # it backs off all the same
                state.held[row.id] = delayed
        elif row.state in LIVE and not row.unwanted and not row.after:
            state.stale[row.id] = service.id
        todo.append(row)


def survey_again(state: State, row: Job) -> None:
    """What its call is must be found out again, if nobody has heard yet whether it was made before."""
    if state.surveyed.pop(row.id, None) is not None:
        state.ready.add(row)
        forget_call(state, row)


def forget_call(state: State, row: Job) -> None:
    """What its call is is not known any more."""
    row.surveys = -1 - row.surveyed
    state.calls.pop(row.id, None)


def _has_run(row: Job) -> bool:
    return row.state in (SUCCEEDED, DONE, S.DROPPED)


def satisfy(state: State, jobs: Jobs, todo: list[Job]) -> None:
    """One of the things that each of `jobs` waits for is there."""
    rows = state.jobs
    for job in jobs:
        row = rows[job]
        row.missing -= 1
        if not row.missing:
            todo.append(row)


# What is told -----------------------------------------------------------------------------------------------------


def _to_tell(job: Job) -> int:
    state = job.state
    if state is DONE:
        return SETTLED | DONE_TOLD
    if state is SUCCEEDED:
        told = 0
        if not job.unsettled and not job.serving:
            told = SETTLED
        if job.hurt:
            told |= BAD
        if job.doomed and not job.valued:
            told |= VALUELESS
        if job.barred and not job.opened:
            told |= CLOSED | LAME
        if job.lame and not job.over:
            told |= LAME
        return told
    if state in DEAD:
        told = BAD | CLOSED | LAME
        if not job.valued:
            told |= VALUELESS
        return told if job.unsettled or job.serving else told | SETTLED
    return 0


def _tell(state: State, job: Job, told: int, todo: list[Job]) -> None:
    """Tell the others what they do not know of `job` yet."""
    new = told ^ job.told
    job.told = told
    if new & (SETTLED | DONE_TOLD | BAD):
        _tell_superiors(state, job, new, told, todo)
    if new & VALUELESS:
        change = 1 if told & VALUELESS else -1
        _doom(state, job, job.users, change, todo)
        _doom(state, job, job.holders, change, todo)
    if new & CLOSED:
        _doom(state, job, job.children, 1 if told & CLOSED else -1, todo)
        if job.id in state.services and job.state is not SUCCEEDED:
            _doom_services(state, job, todo)
    if new & LAME:
        _doom(state, job, job.followers, 1 if told & LAME else -1, todo)


def _tell_superiors(state: State, job: Job, new: int, told: int, todo: list[Job]) -> None:
    settled = (1 if told & SETTLED else -1) if new & SETTLED else 0
    bad = (1 if told & BAD else -1) if new & BAD else 0
    done = (1 if told & DONE_TOLD else -1) if new & DONE_TOLD else 0
    for superior, role in superiors(state, job):
        if role == SERVICE and superior.state is DONE:  # it came back for a job elsewhere, in a restarted run
            _consider_services(state, superior)
            continue
        if bad:
            _hurt(superior, job, bad)
        if role == SERVICE:
            superior.serving -= settled
            superior.barred += bad
        else:
            superior.unsettled -= settled
            if role == CHILD:
                superior.open -= done
                superior.lame += bad
        if bad or not superior.unsettled or not superior.open or settled < 0:
            todo.append(superior)


def _hurt(superior: Job, job: Job, change: int) -> None:
    superior.hurt += change
    if change > 0 and not superior.because and superior.state is SUCCEEDED:
        superior.because = _cause(job)
    elif change < 0 and not superior.hurt and superior.state is SUCCEEDED:
        superior.because = WORKFLOW


def _doom(state: State, job: Job, watchers: Jobs, change: int, todo: list[Job]) -> None:
    for watcher in watchers:
        row = state.row(watcher)
        if job.form == "service" and _has_run(row) and watcher not in job.holders:
            continue
        row.doomed += change
        if change > 0:
            row.because = row.because or _cause(job)
        elif not row.doomed:
            row.because = WORKFLOW
        todo.append(row)


def _doom_services(state: State, job: Job, todo: list[Job]) -> None:
    """A body that cannot succeed has no services; one that may again has."""
    change = 1 if job.told & CLOSED else -1
    _doom(state, job, state.services[job.id], change, todo)


def _cause(job: Job) -> JobId:
    """The failed job that is behind it."""
    return job.id if job.state in (S.FAILED, S.CANCELLED) else job.because


def find_cause(state: State, job: Job) -> JobId:
    """The failed job for whose sake this one cannot run, or cannot become done; 0 if there is none.

    `because` names the first there was: where several were, and that one has been revived, it is another.
    """
    if not (job.hurt if job.state is SUCCEEDED else job.doomed):
        return WORKFLOW
    if job.because and state.jobs[job.because].state in (S.FAILED, S.CANCELLED):
        return job.because
    if job.state is not SUCCEEDED:
        for other, bit in _goes_before(state, job):
            if other.told & bit and _cause(other):
                return _cause(other)
    return next(iter(state.failed), WORKFLOW)


def _goes_before(state: State, job: Job) -> Iterator[tuple[Job, int]]:
    """What a job waits for, and what it would tell if it were hopeless."""
    for need in job.needs:
        yield state.jobs[need], VALUELESS
    for parent in job.parents:
        yield state.row(parent), VALUELESS if job.serves >= 0 else CLOSED
    for followed in job.follows:
        yield state.row(followed), LAME
    if job.serves >= 0:
        yield state.row(job.serves), CLOSED
    elif not job.parents and not job.follows:
        yield state.row(job.by), CLOSED


# Services ---------------------------------------------------------------------------------------------------------


def _consider_services(state: State, job: Job) -> None:
    """Are the services of `job` live, and needed by nothing below it? By others they may be: see `decide.to_stop`.

    Those of a job that is done come back, in a restarted run, for what takes their credentials elsewhere.
    """
    if job.state is DONE:
        idle = not all(state.jobs[service].told & SETTLED for service in state.services[job.id])
    else:
        idle = job.state is SUCCEEDED and job.serving > 0 and not job.unsettled
    if idle:
        state.idle[job.id] = None
    else:
        state.idle.pop(job.id, None)
