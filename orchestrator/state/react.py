"""From what an adapter says to events: pure, and deaf to whatever is old, late or said twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from orch.adapters.contract import Finished, OfAttempt, Queued, Started, Unknown
from orch.attempt import MAKER, NewJob, Note, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.bus.jsonable import jsonable
from orch.state.decide import parse_key
from orch.state.law import LIVE, JobState
from orch.state.model import WORKFLOW, Job, State
from orch.state.policy import Judgement, Rules, Verdict, judge

S = JobState
LONGEST_MESSAGE = 2000
"""Characters."""

Refuse = Callable[[ev.Resources], str]
"""Says what is short when resources can never be given; empty if they can."""


def react(state: State, update: OfAttempt, rules: Rules, refuse: Refuse) -> list[ev.Event]:
    """The events that follow from one update; none if it is about anything but a live attempt of this run."""
    key = update.outcome.key if isinstance(update, Finished) else update.key
    row = live_row(state, key)
    if row is None:
        return []
    match update:
        case Queued():
            return [ev.Submitted(job=row.id, attempt=row.attempt, id=update.id)] if row.state is S.SUBMITTING else []
        case Started():
            return _started(row, update)
        case Finished():
            return finished(state, row, update.outcome, rules, refuse)
        case Note():
            return _note(row, update)
        case Unknown():
            return _unknown(state, row, rules)


def live_row(state: State, key: str) -> Job | None:
    """The job whose live attempt bears `key`."""
    try:
        row = state.jobs[parse_key(key)[1]]
    except (ValueError, KeyError):
        return None
    return row if row.key == key and row.state in LIVE else None


def _started(row: Job, update: Started) -> list[ev.Event]:
    if row.state is S.RUNNING:
        return []
    running = ev.Running(job=row.id, attempt=row.attempt, host=update.host, pid=update.pid, since=update.since)
    if row.state is S.SUBMITTING and update.id:  # it has overtaken `Queued`, which will not be heard any more
        return [ev.Submitted(job=row.id, attempt=row.attempt, id=update.id), running]
    return [running]


def _note(row: Job, note: Note) -> list[ev.Event]:
    if note.kind == "up":
        return _up(row, note)
    if note.kind == "annotate":
        return [ev.Annotated(job=row.id, attempt=row.attempt, name=note.name, value=jsonable(note.value))]
    return [ev.Logged(job=row.id, attempt=row.attempt, text=str(note.value), level=note.level, stream=note.name)]


def _up(row: Job, note: Note) -> list[ev.Event]:
    """A service is up. To be heard once; it may have overtaken the news that it runs."""
    if row.form != "service" or row.valued:
        return []
    serving = ev.Serving(job=row.id, attempt=row.attempt, value=note.blob)
    if row.state is S.RUNNING:
        return [serving]
    return [ev.Running(job=row.id, attempt=row.attempt), serving]


def _unknown(state: State, row: Job, rules: Rules) -> list[ev.Event]:
    """An attempt that never arrived is handed over again by the leader; one that had arrived is gone.

    Where the run is to end, one that never arrived has ended: nobody wants it to begin now.
    """
    outcome = Outcome(key=row.key, reason=Reason.MISSING, message="the batch system has forgotten it")
    if row.state is S.SUBMITTING:
        if not (state.ending or state.stopping or row.id in state.stale or row.unwanted):
            return []
        outcome = Outcome(key=row.key, reason=Reason.KILLED, message="it was never handed over")
    return _ended(state, row, outcome, rules)


def finished(state: State, row: Job, outcome: Outcome, rules: Rules, refuse: Refuse) -> list[ev.Event]:
    """The end of the live attempt of `row`."""
    if row.unwanted:
        return [_cancelled(row, outcome)]
    if outcome.reason is not Reason.FINISHED:
        return _ended(state, row, outcome, rules)
    if row.survey:
        return _surveyed(state, row, outcome, rules, refuse)
    problem = _problem(row, outcome)
    if problem:
        return _ended(state, row, _instead(outcome, Reason.PARTITION, problem), rules)
    base = state.next_job
    jobs = added(outcome.jobs, base, row.id, row.attempt, rules)
    problem = impossible(jobs, refuse)
    if problem:
        return _ended(state, row, _instead(outcome, Reason.FAILED, problem), rules)
    warned = [ev.Warned(message=text, job=row.id) for text in outcome.warnings]
    succeeded = ev.Succeeded(
        job=row.id,
        attempt=row.attempt,
        value=outcome.value,
        refs=[base + ref for ref in outcome.refs],
        alias=outcome.alias,
        added=len(jobs),
        holds=_holds(state, row, outcome),
        files=outcome.files,
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )
    return [*warned, *jobs, succeeded]


def _holds(state: State, row: Job, outcome: Outcome) -> list[ev.JobId]:
    """Of the jobs whose files are kept for a while: those whose files this value hands on, or may hand on.

    A path stands in a pickle as it is. What is in a file of the store is not looked at; what comes of new jobs, which
    stand in the value, may name whatever they were given.
    """
    blobs = [outcome.value, *(job.body for job in outcome.jobs)] if outcome.refs else [outcome.value]
    unseen = any(blob.file for blob in blobs)
    candidates = [job for job in state.needing.get(row.id, ()) if job in state.kept and job != row.id]
    return [
        job
        for job in candidates
        if unseen or any(path.encode() in blob.data for path in state.kept[job] for blob in blobs)
    ]


def _surveyed(state: State, row: Job, outcome: Outcome, rules: Rules, refuse: Refuse) -> list[ev.Event]:
    """What the job asks for is known, and what its call is."""
    wanted = filled(outcome.resources or row.resources, rules)
    problem = refuse(wanted)
    if problem:
        text = f"job {row.label} asks for more than can ever be given here: {problem}"
        return _ended(state, row, _instead(outcome, Reason.FAILED, text), rules)
    warned = [ev.Warned(message=text, job=row.id) for text in outcome.warnings]
    call = outcome.call if row.cache else None
    surveyed = ev.Surveyed(job=row.id, attempt=row.attempt, resources=wanted, call=call, usage=outcome.usage)
    return [*warned, surveyed]


def _problem(row: Job, outcome: Outcome) -> str:
    """What is wrong with an outcome that says that all went well; empty if nothing is."""
    if row.form == "service" and not row.valued:
        return "the service has ended before it was up"
    if not consistent(outcome):
        return "the outcome names jobs that it does not have: it was made by something else than this version of orch"
    return ""


def consistent(outcome: Outcome) -> bool:
    """Do its positions name its own new jobs, and does none of those wait for itself?"""
    count = len(outcome.jobs)
    return (
        all(0 <= ref < count for ref in outcome.refs)
        and (not outcome.alias or len(outcome.refs) == 1)
        and all(_is_sound(job, count) for job in outcome.jobs)
        and _acyclic(outcome.jobs)
    )


def _is_sound(job: NewJob, count: int) -> bool:
    return (
        all(0 <= need < count for need in job.needs)
        and all(MAKER <= other < count for other in (*job.parents, *job.follows))
        and (job.serves is None or MAKER <= job.serves < count)
        and (job.form == "service") == (job.serves is not None)
    )


def _before(job: NewJob) -> list[int]:
    """What must be over, or up, before the job can start."""
    if not job.parents and not job.follows and job.serves is None:
        return job.needs
    serves = () if job.serves is None else (job.serves,)
    return [other for other in (*job.needs, *job.parents, *job.follows, *serves) if other != MAKER]


def _acyclic(jobs: list[NewJob]) -> bool:
    """Can the jobs be put in an order? Ours mostly are: each needs only earlier ones."""
    before = [_before(job) for job in jobs]
    if all(other < position for position, others in enumerate(before) for other in others):
        return True
    missing = [len(others) for others in before]
    users: list[list[int]] = [[] for _ in jobs]
    for position, others in enumerate(before):
        for need in others:
            users[need].append(position)
    free = [position for position, number in enumerate(missing) if not number]
    for position in free:  # grows while it is walked
        for user in users[position]:
            missing[user] -= 1
            if not missing[user]:
                free.append(user)
    return len(free) == len(jobs)


def _instead(outcome: Outcome, reason: Reason, message: str) -> Outcome:
    """The outcome of an attempt that was not as good as it says."""
    return Outcome(
        key=outcome.key,
        reason=reason,
        message=message,
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )


def _cancelled(row: Job, outcome: Outcome) -> ev.Event:
    return ev.Cancelled(
        job=row.id, attempt=row.attempt, usage=outcome.usage, stdout=outcome.stdout, stderr=outcome.stderr
    )


def _lost_with(state: State, row: Job, outcome: Outcome) -> Outcome:
    """The end of an attempt whose service was lost."""
    service = state.jobs[state.stale[row.id]]
    text = f"{service.label}, which it used, is gone"
    return _instead(outcome, Reason.LOST, text)


def _ended(state: State, row: Job, outcome: Outcome, rules: Rules) -> list[ev.Event]:
    if state.ending or row.unwanted:
        return [_cancelled(row, outcome)]
    if row.id in state.stale:
        outcome = _lost_with(state, row, outcome)
    judgement = judge(row, outcome, rules)
    if row.id in state.stale:
        judgement = Judgement(Verdict.RETRY_FREE)
    verdict = judgement.verdict
    failed = ev.Failed(
        job=row.id,
        attempt=row.attempt,
        reason=outcome.reason.value,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=bounded(outcome.message),
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )
    if verdict is Verdict.FAIL:
        return [failed]
    return [
        ev.Retrying(
            **msgspec.structs.asdict(failed),
            charged=verdict is Verdict.RETRY,
            wait=judgement.wait,
            resources=judgement.resources,
        )
    ]


def bounded(message: str) -> str:
    """One message, of a length that people read: the whole of it is on the attempt's stderr, if anywhere."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE * 3 // 4]} […] {message[-LONGEST_MESSAGE // 4 :]}"


def planned(plan: Plan, rules: Rules) -> Iterator[ev.Event]:
    """The events that commit the workflow function's graph, one after the other: there may be a million of them."""
    for text in plan.warnings:
        yield ev.Warned(message=text)
    yield from each_added(plan.jobs, 1, WORKFLOW, 0, rules)
    refs = [1 + ref for ref in plan.refs]
    yield ev.Planned(count=len(plan.jobs), value=plan.value, refs=refs, alias=plan.alias, files=plan.files)


def added(jobs: Sequence[NewJob], base: int, by: int, attempt: int, rules: Rules) -> list[ev.Added]:
    """`each_added`, as a list."""
    return list(each_added(jobs, base, by, attempt, rules))


def each_added(jobs: Sequence[NewJob], base: int, by: int, attempt: int, rules: Rules) -> Iterator[ev.Added]:
    """New jobs, numbered from `base`, with what the run's rules say where they do not."""

    def numbers(positions: list[int]) -> list[int]:
        return [by if position == MAKER else base + position for position in positions]

    return (
        ev.Added(
            job=base + position,
            kind=job.kind,
            name=job.name,
            by=by,
            attempt=attempt,
            needs=[base + need for need in job.needs],
            parents=numbers(job.parents),
            follows=numbers(job.follows),
            serves=-1 if job.serves is None else numbers([job.serves])[0],
            form=job.form,
            body=job.body,
            wanted=job.wanted,
            resources=_asked(job, rules),
            retries=rules.retries if job.retries < 0 else job.retries,
            retry=job.retry,
            checkpoint=job.checkpoint,
            cache=_may_be_reused(job, rules),
            version=job.version,
            priority=job.priority,
            local=job.local,
        )
        for position, job in enumerate(jobs)
    )


def _may_be_reused(job: NewJob, rules: Rules) -> bool:
    if job.form in ("service", "group") or rules.cache == "off":
        return False
    return rules.cache == "all" if job.cache is None else job.cache


def _asked(job: NewJob, rules: Rules) -> ev.Resources:
    resources = filled(job.resources, rules)
    preemptible = rules.resources.preemptible if job.preemptible is None else job.preemptible
    return msgspec.structs.replace(resources, preemptible=True) if preemptible else resources


def filled(resources: ev.Resources, rules: Rules) -> ev.Resources:
    """What a job asks for, with the run's defaults for what it does not say."""
    default = rules.resources
    if resources.cores and not (default.memory or default.disk or default.walltime):
        return resources
    return msgspec.structs.replace(
        resources,
        cores=resources.cores or default.cores,
        memory=resources.memory or default.memory,
        disk=resources.disk or default.disk,
        walltime=resources.walltime or default.walltime,
    )


def impossible(jobs: Iterable[NewJob | ev.Added], refuse: Refuse) -> str:
    """What is wrong with the resources that new jobs ask for; empty if nothing is."""
    asked: set[ev.Resources] = set()
    for job in jobs:
        if job.resources in asked:
            continue
        asked.add(job.resources)
        short = refuse(job.resources)
        if short:
            return f"job {job.name or job.kind} asks for more than can ever be given here: {short}"
    return ""
