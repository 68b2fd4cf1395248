"""What the leader makes of limits, failures, services and stalls, in virtual time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.lives import Lives
from support.virtual import Virtual
from support.workflows import RandomWorkflow, blob

from orch.adapters.contract import Capacity
from orch.attempt import MAKER, Attempt, NewJob, Outcome, Plan, Reason
from orch.bus import events as ev
from orch.state.law import JobState
from orch.testing.batch import FakeBatch, Faults
from orch.testing.faults import Crash, Crashed

GB = 1 << 30
WIDE = Capacity(cores=4, memory=64 * GB, disk=1 << 40, ahead=8)


def job(name: str, needs: list[int] | None = None, cores: float = 1.0, **fields: Any) -> NewJob:
    return NewJob(
        kind="job", name=name, needs=needs or [], body=blob(name), resources=ev.Resources(cores=cores), **fields
    )


def service(name: str, cores: float = 1.0, **fields: Any) -> NewJob:
    """A service of the workflow."""
    return job(name, cores=cores, form="service", serves=MAKER, **fields)


def fine(attempt: Attempt) -> Outcome:
    return Outcome(key=attempt.key, reason=Reason.FINISHED, value=blob([attempt.name, attempt.attempt]))


def ends(reasons: dict[str, list[Reason]], **fields: Any) -> Callable[[Attempt], Outcome]:
    """Attempts of these jobs end so, one after the other; then well, like all others."""

    def body(attempt: Attempt) -> Outcome:
        left = reasons.get(attempt.name, [])
        if not left:
            return fine(attempt)
        return Outcome(key=attempt.key, reason=left.pop(0), **fields)

    return body


# Stalls ----------------------------------------------------------------------------------------------------------


def stalled(capacity: Capacity) -> Virtual:
    """A service has taken most of the room, and what needs it stays in the queue."""
    run = Virtual(Plan(jobs=[service("db", cores=3), job("query", [0], cores=2)]), fine, capacity)
    run.batch.held = frozenset({"query"})
    return run.lead()


def test_a_run_in_which_only_services_run_is_given_up_after_a_while_and_says_why() -> None:
    run = stalled(WIDE)
    run.until(lambda: list(run.said(ev.Serving)) and run.submitted("query"))
    began = run.world.now
    run.wait(58)
    assert not list(run.said(ev.Abandoned))
    assert run.to_end() == "failed"
    assert 58 < run.world.now - began < 65
    (abandoned,) = run.said(ev.Abandoned)
    assert abandoned.message == (
        "only services run (db [1]), and what needs them can never get room: query [2]; "
        "cores: wanted 2, available 1. Give the run more, or the services less"
    )
    assert run.watcher.running == {}
    assert [row.state for row in run.state.jobs.values()] == [JobState.CANCELLED] * 2


def test_what_is_queued_where_others_may_leave_room_is_waited_for() -> None:
    run = stalled(Capacity(cores=4, memory=64 * GB, disk=1 << 40, ahead=8, elastic=True))
    run.wait(5000)
    assert not list(run.said(ev.Abandoned))
    run.batch.held = frozenset()
    run.batch._start(run.batch.records["run.2.1"])
    assert run.to_end() == "succeeded"


def test_services_that_keep_each_other_out_are_a_stall() -> None:
    jobs = [service("one"), service("two"), job("both", [0, 1])]
    run = Virtual(Plan(jobs=jobs), fine, WIDE, max_services=1, deadlock_wait=10.0).lead()
    assert run.to_end() == "failed"
    (abandoned,) = run.said(ev.Abandoned)
    assert abandoned.message.startswith("only services run (one [1]), and what needs them can never get room: two [2]")
    assert "the limit for a service is 1" in abandoned.message


def test_a_stall_that_is_mended_in_time_is_none() -> None:
    jobs = [service("one"), service("two"), job("both", [0, 1])]
    run = Virtual(Plan(jobs=jobs), fine, WIDE, max_services=1).lead()
    run.until(lambda: list(run.said(ev.Serving)))
    run.wait(50)
    run.request("set", max_services=2)
    assert run.to_end() == "succeeded"
    assert [event.settings for event in run.said(ev.Adjusted)] == [{"max_services": 2}]


# Limits ----------------------------------------------------------------------------------------------------------


def test_no_more_jobs_at_once_than_are_allowed_until_it_is_changed_and_by_the_next_leader_too() -> None:
    run = Virtual(Plan(jobs=[job(f"j{k}", cores=0.1) for k in range(20)]), fine, WIDE, max_jobs=2).lead()
    run.until(lambda: len(list(run.said(ev.Succeeded))) >= 6)
    assert run.watcher.most == 2
    run.request("set", max_jobs=3)
    run.until(lambda: list(run.said(ev.Adjusted)))
    run.kill()
    run.lead().until(lambda: len(list(run.said(ev.Succeeded))) >= 14)
    assert run.watcher.most == 3
    run.request("set", max_jobs="unlimited")
    assert run.to_end() == "succeeded"
    assert run.watcher.most > 3


def test_local_jobs_have_a_limit_of_their_own_that_holds_up_nobody_else() -> None:
    jobs = [job(f"local{k}", local=True) for k in range(3)] + [job(f"j{k}") for k in range(3)]
    run = Virtual(Plan(jobs=jobs), fine, WIDE, max_local_jobs=1).lead()
    run.until(lambda: run.watcher.submissions)
    assert {attempt.name for _, attempt in run.watcher.submissions} == {"local0", "j0", "j1", "j2"}
    assert run.to_end() == "succeeded"


def test_what_matters_more_goes_first_and_services_before_others() -> None:
    jobs = [job("low"), job("high", priority=5), service("db"), job("middle", priority=1)]
    run = Virtual(Plan(jobs=jobs), fine, WIDE, max_jobs=1).lead()
    assert run.to_end() == "failed", "the service keeps the only place: nobody would get on"
    assert [attempt.name for _, attempt in run.watcher.submissions] == ["high", "db"]
    run = Virtual(Plan(jobs=jobs), fine, WIDE, max_jobs=4).lead()
    assert run.to_end() == "succeeded"
    assert [attempt.name for _, attempt in run.watcher.submissions] == ["high", "db", "low", "middle"]


def test_the_first_failure_ends_it_all_if_that_is_wished() -> None:
    body = ends({"bad": [Reason.FAILED]})
    jobs = [job("bad"), *(job(f"j{k}") for k in range(20))]
    run = Virtual(Plan(jobs=jobs), body, WIDE, first_failure=True).lead()
    run.batch.held = frozenset(f"j{k}" for k in range(20))
    assert run.to_end() == "failed"
    assert [event.why for event in run.said(ev.Abandoned)] == ["first failure"]
    assert run.state.counts[JobState.CANCELLED] == 20
    assert "bad [1] failed" in run.state.abandoned


# Trying again ----------------------------------------------------------------------------------------------------


def test_waits_grow_between_tries() -> None:
    run = Virtual(Plan(jobs=[job("j", retries=3)]), ends({"j": [Reason.FAILED] * 3}), WIDE, retry_backoff=2.0).lead()
    assert run.to_end() == "succeeded"
    waits = [event.wait for event in run.said(ev.Retrying)]
    for base, wait in zip((2, 6, 18), waits, strict=True):
        assert 0.7 * base < wait < 1.3 * base
    times = [time for time, _ in run.submitted("j")]
    for wait, before, after in zip(waits, times, times[1:], strict=False):
        assert wait <= after - before < wait + 5


def test_what_an_earlier_leader_had_set_aside_waits_for_what_is_left_of_it() -> None:
    run = Virtual(Plan(jobs=[job("j", retries=1)]), ends({"j": [Reason.FAILED]}), WIDE, retry_backoff=100.0).lead()
    run.until(lambda: list(run.said(ev.Retrying)))
    (retrying,) = run.said(ev.Retrying)
    began = run.world.now
    run.wait(40)
    run.kill()
    run.lead().wait(1)
    assert len(run.submitted("j")) == 1
    assert run.to_end() == "succeeded"
    second = run.submitted("j")[1][0] - began
    assert retrying.wait - 2 < second < retrying.wait + 5


def test_losses_cost_nothing_and_the_first_is_made_up_for_at_once() -> None:
    run = Virtual(Plan(jobs=[job("j")]), ends({"j": [Reason.LOST, Reason.PREEMPTED, Reason.MISSING]}), WIDE).lead()
    assert run.to_end() == "succeeded"
    found = [(event.reason, event.charged, event.wait > 0) for event in run.said(ev.Retrying)]
    assert found == [("LOST", False, False), ("PREEMPTED", False, True), ("MISSING", False, True)]


def test_losses_are_bounded() -> None:
    run = Virtual(Plan(jobs=[job("j")]), ends({"j": [Reason.LOST] * 9}), WIDE, max_lost=3, retry_backoff=0.0).lead()
    assert run.to_end() == "failed"
    assert len(list(run.said(ev.Retrying))) == 3


def test_more_memory_where_there_was_too_little_up_to_the_cap() -> None:
    asked = ev.Resources(memory=GB)
    retry = ev.Retry(memory_cap=3 * GB)
    big = NewJob(kind="job", name="big", body=blob("big"), resources=asked, retries=3, retry=retry)
    run = Virtual(Plan(jobs=[big]), ends({"big": [Reason.MEMLIMIT] * 3}), WIDE).lead()
    assert run.to_end() == "succeeded"
    assert [attempt.resources.memory for _, attempt in run.submitted("big")] == [GB, 2 * GB, 3 * GB, 3 * GB]
    assert all(event.charged for event in run.said(ev.Retrying))


@pytest.mark.parametrize(
    ("retry", "outcome", "again"),
    [
        (ev.Retry(on=("exit:3",)), {"exit_code": 3}, True),
        (ev.Retry(on=("exit:3",)), {"exit_code": 4}, False),
        (ev.Retry(never=("exit:3",)), {"exit_code": 3}, False),
        (ev.Retry(on=("reason:MEMLIMIT",)), {}, False),
        (ev.Retry(on=("error:OSError",)), {"errors": ["shop.Closed", "builtins.OSError"]}, True),
        (ev.Retry(never=("error:shop.Closed",)), {"errors": ["shop.Closed", "builtins.OSError"]}, False),
        (ev.Retry(on=("message:full$",)), {"message": "the disk is full"}, True),
        (ev.Retry(on=("message:full$",)), {"message": "full of it"}, False),
    ],
)
def test_what_is_tried_again_is_for_the_user_to_say(retry: ev.Retry, outcome: dict[str, object], again: bool) -> None:
    plan = Plan(jobs=[job("j", retries=1, retry=retry)])
    run = Virtual(plan, ends({"j": [Reason.FAILED]}, **outcome), WIDE).lead()
    assert run.to_end() == ("succeeded" if again else "failed")


def test_what_cannot_be_submitted_is_tried_again_a_few_times_without_charge() -> None:
    run = Virtual(Plan(jobs=[job("j", retries=0)]), fine, WIDE, retry_backoff=0.1)
    run.batch.held = frozenset({"j"})
    run.lead()

    def refuse() -> None:
        for record in list(run.batch.records.values()):
            run.batch._end(record, Outcome(key=record.attempt.key, reason=Reason.ERROR, message="sbatch: no"))
        run.world.later(0.5, refuse)

    refuse()
    assert run.to_end() == "failed"
    assert [event.charged for event in run.said(ev.Retrying)] == [False] * 5
    assert [event.message for event in run.said(ev.Failed)] == ["sbatch: no"]


def test_what_the_batch_system_has_lost_is_cancelled_in_case_it_comes_back() -> None:
    run = Virtual(Plan(jobs=[job("j")]), fine, WIDE).lead()
    run.until(lambda: run.watcher.running)
    run.batch._vanish(run.batch.records["run.1.1"])
    assert run.to_end() == "succeeded"
    assert [event.reason for event in run.said(ev.Retrying)] == ["MISSING"]
    assert any("cancels run.1.1" in line for line in run.world.lines)


def test_attempts_that_are_to_be_killed_on_purpose_bear_the_time_of_it() -> None:
    jobs = [job(f"j{k}") for k in range(100)]
    run = Virtual(Plan(jobs=jobs), fine, WIDE, chaos=0.3, chaos_seconds=7.0).lead()
    assert run.to_end() == "succeeded"
    dooms = [attempt.doom for _, attempt in run.watcher.submissions]
    assert 15 < sum(doom > 0 for doom in dooms) < 45
    assert max(dooms) <= 7.0


# Services --------------------------------------------------------------------------------------------------------


def test_what_uses_a_service_that_is_lost_is_lost_with_it_and_gets_the_credentials_of_the_next() -> None:
    jobs = [service("db", retries=0), job("query", [0], retries=0), job("beside")]
    run = Virtual(Plan(jobs=jobs), fine, WIDE)
    run.batch.wild.longest = 10.0
    run.lead().until(lambda: any(each.name == "query" for each in run.watcher.running.values()))
    run.batch._end(run.batch.records["run.1.1"], Outcome(key="", reason=Reason.LOST))
    assert run.to_end() == "succeeded"
    assert [(event.job, event.reason, event.charged) for event in run.said(ev.Retrying)] == [
        (1, "LOST", False), (2, "LOST", False),
    ]  # fmt: skip
    given = [json.loads(attempt.values[1].blob.data) for _, attempt in run.submitted("query")]
    assert given == [["db", 1], ["db", 2]]
    assert [event.attempt for event in run.said(ev.Serving)] == [1, 2]


def test_services_stop_after_their_users_and_children_first() -> None:
    jobs = [service("disk"), service("db", parents=[0]), job("query", [1])]
    run = Virtual(Plan(jobs=jobs), fine, WIDE).lead()
    assert run.to_end() == "succeeded"
    assert run.watcher.ends == ["run.3.1", "run.2.1", "run.1.1"]
    assert run.watcher.running == {}


@pytest.mark.parametrize("killed", [False, True])
def test_when_a_run_is_cancelled_services_go_last(killed: bool) -> None:
    jobs = [service("disk"), service("db", parents=[0]), job("query", [1])]
    run = Virtual(Plan(jobs=jobs), fine, WIDE)
    run.lead().until(lambda: any(each.name == "query" for each in run.watcher.running.values()))
    run.batch.wild.longest = 1e9
    run.request("cancel")
    if killed:
        run.until(lambda: list(run.said(ev.Requested)))
        run.kill()
        run.lead()
    assert run.to_end() == "cancelled"
    assert run.watcher.ends == ["run.3.1", "run.2.1", "run.1.1"]


def test_a_service_that_fails_for_good_takes_along_what_needs_it_and_nothing_else() -> None:
    jobs = [service("db"), service("other"), job("query", [0]), job("beside")]
    run = Virtual(Plan(jobs=jobs), ends({"db": [Reason.FAILED]}), WIDE).lead()
    assert run.to_end() == "failed"
    states = {row.name: row.state for row in run.state.jobs.values()}
    assert (states["db"], states["query"], states["other"]) == (JobState.FAILED, JobState.SKIPPED, JobState.DONE)
    assert run.watcher.running == {}


def test_a_job_elsewhere_that_has_the_credentials_keeps_the_service_up() -> None:
    jobs = [job("host"), NewJob(kind="s", name="db", form="service", serves=0, body=blob("db")), job("query", [1])]
    run = Virtual(Plan(jobs=jobs), fine, WIDE).lead()
    assert run.to_end() == "succeeded"
    assert run.watcher.ends[-2:] == ["run.3.1", "run.2.1"]


# Checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_waits_before_it_runs_again_although_something_below_it_has_to_be_ended_first() -> None:
    def body(attempt: Attempt) -> Outcome:
        if attempt.name == "bad" and attempt.job < 4:
            return Outcome(key=attempt.key, reason=Reason.FAILED)
        outcome = fine(attempt)
        if attempt.name != "top":
            return outcome
        return Outcome(
            key="", reason=Reason.FINISHED, value=outcome.value, jobs=[job("slow"), job("bad", retries=0)], refs=[1]
        )

    run = Virtual(Plan(jobs=[job("top", checkpoint=True, retries=1)]), body, WIDE, retry_backoff=50.0)
    run.batch.held = frozenset({"slow"})
    run.lead().until(lambda: list(run.said(ev.Rewound)))
    run.batch.held = frozenset()
    assert run.to_end() == "succeeded"
    (first, _), (second, _) = run.submitted("top")
    assert second - first > 0.7 * 50
    states = [str(row.state) for row in run.state.jobs.values()]
    assert states == ["done", "dropped", "dropped", "done", "done"]


# Chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 25))
async def test_a_leader_may_die_anywhere_while_links_run_in_one_place(at: int) -> None:
    workflow = RandomWorkflow(at, most=5, deepest=2)
    batch = FakeBatch(
        workflow.body, seed=at, faults=Faults(delay=1.0, twice=0.2), capacity=Capacity(4, GB, GB, chains=True)
    )
    lives = Lives(workflow.plan(), batch)
    with contextlib.suppress(Crashed):
        await lives.live(crash=Crash(at, "after" if at % 2 else "before"))
    while lives.state.outcome != "succeeded":
        await lives.live(restart=lives.state.planned is not None)
    assert lives.result() == workflow.expected
    assert set(batch.succeeded.values()) <= {1}


def test_links_that_have_run_in_one_place_are_attempts_like_others() -> None:
    capacity = Capacity(cores=4, memory=GB, disk=GB, chains=True)
    run = Virtual(Plan(jobs=[job("a"), job("b", [0]), job("c", [1])]), fine, capacity).lead()
    assert run.to_end() == "succeeded"
    assert [(event.key, event.after) for event in run.said(ev.Submitting)] == [
        ("run.1.1", 0), ("run.2.1", 1), ("run.3.1", 2),
    ]  # fmt: skip
    assert [event.job for event in run.said(ev.Succeeded)] == [1, 2, 3]
    assert len({time for time, _ in run.watcher.submissions}) == 1
    plain = Virtual(Plan(jobs=[job("a"), job("b", [0])]), fine, capacity, chaining=False).lead()
    assert plain.to_end() == "succeeded"
    assert [event.after for event in plain.said(ev.Submitting)] == [0, 0]


def test_a_service_is_not_kept_for_a_checkpoint_that_has_no_tries_left() -> None:
    def body(attempt: Attempt) -> Outcome:
        if attempt.name == "bad":
            return Outcome(key=attempt.key, reason=Reason.FAILED)
        jobs = [job("bad", retries=0)] if attempt.name == "top" else []
        return msgspec.structs.replace(fine(attempt), jobs=jobs)

    jobs = [service("db"), job("top", [0], checkpoint=True, retries=1)]
    run = Virtual(Plan(jobs=jobs), body, WIDE, retry_backoff=0.0).lead()
    assert run.to_end() == "failed"
    assert len(list(run.said(ev.Rewound))) == 1
    assert [event.job for event in run.said(ev.Serving)] == [1], "it was there for both tries"
    assert not run.watcher.running
