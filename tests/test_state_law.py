"""The law: every event in every state is either legal or refused by name, and the documentation says the same."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.folded import Folded, added, begun, reach, run_through, subject, submitting

from orch.attempt import Outcome, Reason
from orch.bus import events as ev
from orch.bus.codec import Unknown, type_name
from orch.state import policy
from orch.state.fold import HANDLERS, fold
from orch.state.graph import IllegalTransition, move
from orch.state.law import ACTIVE, LIVE, OVER, TRANSITIONS, JobState, diagram
from orch.state.model import Job, State
from orch.testing.states import check

PAGE = Path(__file__).parents[1] / "docs" / "states.md"

LAW = """
              submitting submitted running annotated logged succeeded retrying failed cancelled
added             -          -        -        -        -       -         -       -       -
waiting           -          -        -        -        -       -         -       -       -
ready             x          -        -        -        -       -         -       -       -
submitting        -          x        x        x        x       x         x       x       x
queued            -          -        x        x        x       x         x       x       x
running           -          -        -        x        x       x         x       x       x
succeeded         -          -        -        -        -       -         -       -       -
done              -          -        -        -        -       -         -       -       -
failed            -          -        -        -        -       -         -       -       -
cancelled         -          -        -        -        -       -         -       -       -
skipped           -          -        -        -        -       -         -       -       -
dropped           -          -        -        -        -       -         -       -       -
"""
"""Which event may come in which state of its job (x): one that is neither a service nor to be surveyed."""


def cases() -> list[tuple[JobState, str, bool]]:
    head, *rows = (line.split() for line in LAW.strip().splitlines())
    return [(JobState(row[0]), tag, mark == "x") for row in rows for tag, mark in zip(head, row[1:], strict=True)]


ABOUT: dict[str, Callable[[int, int], ev.Event]] = {
    "submitting": submitting,
    "submitted": lambda job, attempt: ev.Submitted(job=job, attempt=attempt, id="7"),
    "running": lambda job, attempt: ev.Running(job=job, attempt=attempt),
    "annotated": lambda job, attempt: ev.Annotated(job=job, attempt=attempt, name="n", value=1),
    "logged": lambda job, attempt: ev.Logged(job=job, attempt=attempt, text="t"),
    "succeeded": lambda job, attempt: ev.Succeeded(job=job, attempt=attempt),
    "retrying": lambda job, attempt: ev.Retrying(job=job, attempt=attempt, reason="LOST"),
    "failed": lambda job, attempt: ev.Failed(job=job, attempt=attempt, reason="FAILED"),
    "cancelled": lambda job, attempt: ev.Cancelled(job=job, attempt=attempt),
    "serving": lambda job, attempt: ev.Serving(job=job, attempt=attempt),
    "surveyed": lambda job, attempt: ev.Surveyed(job=job, attempt=attempt, resources=ev.Resources()),
    "reused": lambda job, _: ev.Reused(job=job, run="other", source=1, values=[ev.Kept(value=ev.Blob())]),
    "rewound": lambda job, _: ev.Rewound(job=job, failed=2),
    "removed": lambda job, _: ev.Removed(job=job, files=["f"]),
}
"""An event of each type about an attempt."""


def about(tag: str, job: int, attempt: int) -> ev.Event:
    return ABOUT[tag](job, attempt)


@pytest.mark.parametrize("state", JobState)
def test_each_state_can_be_reached(state: JobState) -> None:
    told = reach(state)
    assert told.state.jobs[subject(state)].state is state
    check(told.state)


@pytest.mark.parametrize(("state", "tag", "legal"), cases())
def test_each_event_in_each_state(state: JobState, tag: str, legal: bool) -> None:
    told = reach(state)
    row = told.state.jobs[subject(state)]
    event = about(tag, row.id, row.attempt + 1 if tag == "submitting" else max(row.attempt, 1))
    if legal:
        check(told.then(event).state)
        return
    number = told.state.seq + 1
    with pytest.raises(IllegalTransition, match=rf"^event {number} \({tag}\): .*{row.name} \[{row.id}\]"):
        told.then(event)


@pytest.mark.parametrize("tag", ["serving", "surveyed", "reused", "rewound", "removed"])
@pytest.mark.parametrize("state", JobState)
def test_what_is_not_about_such_a_job_is_refused(state: JobState, tag: str) -> None:
    told = reach(state)
    row = told.state.jobs[subject(state)]
    with pytest.raises(IllegalTransition, match=rf"\({tag}\): .*{row.name} \[{row.id}\]"):
        told.then(about(tag, row.id, max(row.attempt, 1)))


@pytest.mark.parametrize("state", sorted(LIVE))
@pytest.mark.parametrize("tag", ["submitted", "running", "annotated", "succeeded", "retrying", "failed", "cancelled"])
def test_only_the_live_attempt_can_say_anything(state: JobState, tag: str) -> None:
    for attempt in (0, 2):
        told = reach(state)
        with pytest.raises(IllegalTransition, match=rf"\({tag}\): attempt {attempt} of job j1 \[1\] is not live"):
            told.then(about(tag, 1, attempt))


SPECIAL = """
                 serving surveyed reused succeeded retrying failed
service          -       -        -      -         -        -
service, queued  -       -        -      -         x        x
service, running x       -        -      -         x        x
service, up      -       -        -      x         x        x
survey           -       x        -      -         x        x
surveyed         -       -        x      -         -        -
not known        -       -        -      -         -        -
"""
"""The same for jobs that are services, or are (or were) to be surveyed first."""


def special(where: str) -> Folded:
    """A run whose job 1 stands there."""
    service = where.startswith("service")
    form, serves = ("service", 0) if service else ("fork", -1)
    job = ev.Added(job=1, kind="job", name="j1", form=form, serves=serves, cache=not service)
    told = begun().then(job, ev.Planned(count=1))
    if where == "service":
        return told
    told.then(msgspec.structs.replace(submitting(1), survey=not service))
    call = ev.Call(digest="d") if where == "surveyed" else None
    surveyed = ev.Surveyed(job=1, attempt=1, resources=ev.Resources(), call=call)
    running, up = ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1)
    more: dict[str, list[ev.Event]] = {
        "service, queued": [ev.Submitted(job=1, attempt=1)],
        "service, running": [running],
        "service, up": [running, up],
        "surveyed": [surveyed],
        "not known": [surveyed],
    }
    return told.then(*more.get(where, []))


def special_cases() -> list[tuple[str, str, bool]]:
    head, *rows = SPECIAL.strip("\n").splitlines()
    tags = head.split()
    return [
        (row[:17].strip(), tag, mark == "x") for row in rows for tag, mark in zip(tags, row[17:].split(), strict=True)
    ]


@pytest.mark.parametrize(("where", "tag", "legal"), special_cases())
def test_each_event_of_services_and_surveys(where: str, tag: str, legal: bool) -> None:
    told = special(where)
    if legal:
        check(told.then(about(tag, 1, 1)).state)
        return
    with pytest.raises(IllegalTransition, match=rf"\({tag}\): .*j1 \[1\]"):
        told.then(about(tag, 1, 1))


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_attempts_are_numbered_without_gaps(attempt: int) -> None:
    told = reach(JobState.RUNNING).then(ev.Retrying(job=1, attempt=1, reason="LOST"))
    with pytest.raises(IllegalTransition, match=rf"attempt {attempt} of job j1 \[1\] follows attempt 1"):
        told.then(submitting(1, attempt))


ILLEGAL: dict[str, tuple[list[ev.Event], str]] = {
    "a gap": ([ev.Warned(message="", seq=9)], r"event 9 follows event 2"),
    "a repeat": ([ev.Warned(message="", seq=2)], r"event 2 follows event 2"),
    "created twice": ([ev.Created(run="r")], r"event 3 \(created\): the run was created twice"),
    "planned twice": ([ev.Planned(count=0), ev.Planned(count=0)], r"event 4 \(planned\): the run was planned twice"),
    "too few jobs": ([added(1), ev.Planned(count=2)], r"event 4 \(planned\): 2 new jobs are counted, 1 were added"),
    "too many jobs": ([added(1), ev.Planned(count=0)], r"event 4 \(planned\): 0 new jobs are counted, 1 were added"),
    "jobs from nowhere": (
        [added(1), ev.Planned(count=1), submitting(1), ev.Succeeded(job=1, attempt=1, added=1)],
        r"event 6 \(succeeded\): 1 new jobs are counted, 0 were added",
    ),
    "jobs not counted": (
        [added(1), ev.Planned(count=1), submitting(1), added(2, by=1, attempt=1), ev.Succeeded(job=1, attempt=1)],
        r"event 7 \(succeeded\): 0 new jobs are counted, 1 were added",
    ),
    "numbered backwards": ([added(2), added(1)], r"event 4 \(added\): job 1 comes after job 2"),
    "numbered twice": ([added(1), added(1)], r"event 4 \(added\): job 1 comes after job 1"),
    "needs nobody": ([added(1, [5]), ev.Planned(count=1)], r"event 4 \(planned\) names job 5, which does not exist"),
    "returns nobody": ([ev.Planned(count=0, refs=[5])], r"event 3 \(planned\) names job 5, which does not exist"),
    "runs nobody": ([submitting(5)], r"event 3 \(submitting\) names job 5, which does not exist"),
    "a tail call of nothing": (
        [added(1), ev.Planned(count=1), submitting(1), ev.Succeeded(job=1, attempt=1, alias=True)],
        r"event 6 \(succeeded\).*which does not exist",
    ),
    "an odd wish": ([ev.Requested(what="dance")], r"event 3 \(requested\): nobody can request 'dance'"),
    "ended too soon": (
        [added(1), ev.Planned(count=1), ev.Ended(outcome="succeeded")],
        r"event 5 \(ended\): the run cannot have succeeded while 1 jobs are left",
    ),
    "an odd end": ([ev.Planned(count=0), ev.Ended(outcome="fine")], r"event 4 \(ended\): .*'fine'"),
    "ended twice": (
        [ev.Planned(count=0), ev.Ended(outcome="succeeded"), ev.Ended(outcome="failed")],
        r"event 5 \(ended\): .*succeeded",
    ),
    "restarted after success": (
        [ev.Planned(count=0), ev.Ended(outcome="succeeded"), ev.Restarted()],
        r"event 5 \(restarted\): the run has succeeded",
    ),
    "a type from the future": ([Unknown(kind="levitated")], r"event 3: type Unknown is not known"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal_events_are_refused_by_name(name: str) -> None:
    events, message = ILLEGAL[name]
    with pytest.raises(IllegalTransition, match=message):
        begun().then(*events)


def test_every_event_type_has_its_place_in_the_fold() -> None:
    assert set(HANDLERS) == set(ev.KNOWN)


def test_no_move_but_those_in_the_table() -> None:
    for old in JobState:
        for new in JobState:
            state, row = State(), Job(1, "job", "", 1)
            row.state = old
            if old is JobState.READY:
                state.ready.add(row)
            if new in TRANSITIONS[old]:
                move(state, row, new, "")
                assert row.state is new
            else:
                with pytest.raises(IllegalTransition, match=f"cannot go from {old} to {new}"):
                    move(state, row, new, "")


def test_the_kinds_of_states_fit_together() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert LIVE < ACTIVE
    assert not ACTIVE & OVER
    assert set(JobState) - ACTIVE - OVER == {JobState.ADDED, JobState.SUCCEEDED}
    reachable = set().union(*TRANSITIONS.values()) | {JobState.ADDED}
    assert reachable == set(JobState)


def test_a_job_costs_five_events() -> None:
    told = begun().then(added(1), ev.Planned(count=1, refs=[1]), *run_through(1))
    assert told.state.jobs[1].state is JobState.DONE
    assert fold(told.events).active == 0


# The documentation -----------------------------------------------------------------------------------------------


def block(name: str) -> str:
    """The part of the page between two marks."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE.read_text("utf-8"), re.DOTALL)
    assert found, f"{PAGE} has no block {name}"
    return found[1]


def test_the_page_has_the_diagram() -> None:
    assert block("diagram") == f"```text\n{diagram()}\n```"


def test_the_page_has_the_table_of_reasons() -> None:
    doc = inspect.getdoc(policy)
    assert doc is not None
    table = "\n".join(line for line in doc.splitlines() if line.startswith("|"))
    assert block("reasons") == table
    assert set(re.findall(r"^\| ([A-Z]+) ", table, re.MULTILINE)) == set(Reason) - {Reason.FINISHED}


def test_the_page_explains_each_state_and_each_event() -> None:
    explained = re.findall(r"^\| `(\w+)` ", block("states"), re.MULTILINE)
    assert explained == [state.value for state in JobState]
    page = PAGE.read_text("utf-8")
    assert [tag for tag in map(type_name, ev.KNOWN) if f"`{tag}`" not in page] == []


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.FINISHED}))
def test_the_table_of_reasons_is_what_is_done(reason: Reason) -> None:
    line = next(line for line in block("reasons").splitlines() if f" {reason} " in line)
    row = Job(1, "job", "", 1)
    row.retries = 1
    row.state = JobState.RUNNING
    free = line.split("|")[2].strip().startswith("no")

    def verdict() -> policy.Verdict:
        return policy.judge(row, Outcome(key="r.1.1", reason=reason), policy.Rules(most_lost=7)).verdict

    assert verdict() is (policy.Verdict.RETRY_FREE if free else policy.Verdict.RETRY)
    row.free = 7
    assert verdict() is policy.Verdict.RETRY
    row.charged = 1
    assert verdict() is policy.Verdict.FAIL
    row.free = 6
    assert verdict() is (policy.Verdict.RETRY_FREE if free else policy.Verdict.FAIL)
