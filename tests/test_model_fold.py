"""Relations between jobs, where something goes on beside them: what is easily forgotten, one story each."""

from __future__ import annotations

from typing import Any

import msgspec
from support.folded import Folded, begun, run_through, submitting

from orch.bus import events as ev
from orch.state.decide import to_stop
from orch.state.law import JobState
from orch.testing.states import check

S = JobState


def job(number: int, by: int = 0, **fields: Any) -> ev.Added:
    """A new job."""
    return msgspec.convert(
        {"type": "added", "job": number, "kind": "job", "by": by, "attempt": int(by > 0), **fields}, ev.Added
    )


def told(*events: ev.Event) -> Folded:
    """A run of which this is known, and whose counts are right after each event."""
    found = begun()
    return more(found, *events)


def more(found: Folded, *events: ev.Event) -> Folded:
    for event in events:
        found.then(event)
        check(found.state)
    return found


def state_of(found: Folded, number: int) -> JobState:
    return found.state.jobs[number].state


def test_a_job_with_children_that_makes_jobs_of_its_own_lets_both_start() -> None:
    found = told(job(1), job(2, parents=[1]), ev.Planned(count=2), submitting(1), job(3, by=1))
    more(found, ev.Succeeded(job=1, attempt=1, added=1))
    assert sorted(found.state.ready) == [2, 3]


def test_a_link_is_void_and_may_start_as_soon_as_the_one_before_it_has_made_jobs() -> None:
    found = told(job(1), job(2, parents=[1]), ev.Planned(count=2), submitting(1))
    more(found, ev.Submitting(job=2, attempt=1, key="r.2.1", after=1), job(3, by=1))
    more(found, ev.Succeeded(job=1, attempt=1, added=1))
    assert (state_of(found, 2), state_of(found, 3), found.state.links) == (S.READY, S.READY, 0)


def test_a_void_link_of_a_run_that_is_cancelled_does_not_wait() -> None:
    found = told(job(1), job(2, parents=[1]), ev.Planned(count=2), submitting(1))
    more(found, ev.Submitting(job=2, attempt=1, key="r.2.1", after=1), ev.Requested(what="cancel"), job(3, by=1))
    more(found, ev.Succeeded(job=1, attempt=1, added=1), ev.Ended(outcome="cancelled"))
    assert (state_of(found, 2), state_of(found, 3)) == (S.CANCELLED, S.CANCELLED)


def test_services_of_a_job_without_a_body_start() -> None:
    service = job(2, serves=1, form="service")
    found = told(job(1, form="group"), service, job(3, parents=[1]), ev.Planned(count=3))
    assert (list(found.state.ready), state_of(found, 3)) == ([2], S.WAITING)
    more(found, submitting(2), ev.Running(job=2, attempt=1), ev.Serving(job=2, attempt=1))
    assert list(found.state.ready) == [3]


def test_a_service_of_the_maker_may_need_a_job_that_stands_before_it() -> None:
    found = told(job(1), job(2, needs=[1], serves=0, form="service"), job(3), ev.Planned(count=3))
    assert (list(found.state.ready), state_of(found, 3)) == ([1], S.WAITING)
    more(found, *run_through(1), submitting(2), ev.Running(job=2, attempt=1), ev.Serving(job=2, attempt=1))
    assert list(found.state.ready) == [3]


def test_a_job_without_a_body_that_is_revived_gives_hope_to_all_around_it() -> None:
    found = told(job(1), job(2, form="group", needs=[1]), job(3, follows=[2]), ev.Planned(count=3, refs=[2]))
    more(found, submitting(1), ev.Failed(job=1, attempt=1, reason="FAILED"))
    assert found.state.workflow.doomed
    more(found, ev.Restarted(), submitting(1, 2), ev.Succeeded(job=1, attempt=2))
    assert not found.state.workflow.doomed
    assert list(found.state.ready) == [3]


def test_what_lives_below_a_checkpoint_that_runs_again_counts_for_nothing_any_more() -> None:
    found = told(job(1, checkpoint=True, retries=1), ev.Planned(count=1), submitting(1))
    more(found, job(2, by=1), job(3, by=1), job(4, by=1, needs=[3]), ev.Succeeded(job=1, attempt=1, added=3))
    more(found, submitting(2), submitting(3), ev.Submitting(job=4, attempt=1, key="r.4.1", after=3))
    more(found, ev.Failed(job=2, attempt=1, reason="FAILED"), ev.Rewound(job=1, failed=2))
    assert [state_of(found, number) for number in (1, 2, 3, 4)] == [S.WAITING, S.DROPPED, S.SUBMITTING, S.SUBMITTING]
    more(found, ev.Cancelled(job=3, attempt=1))
    assert (state_of(found, 1), list(found.state.live)) == (S.WAITING, [4]), "the link is ended for itself"
    more(found, ev.Cancelled(job=4, attempt=1))
    assert (state_of(found, 1), found.state.lanes["job"], found.state.links) == (S.READY, 0, 0)


def test_a_checkpoint_that_runs_again_waits_for_the_service_that_it_needs() -> None:
    found = told(job(1, serves=0, form="service", retries=1), job(2, needs=[1], checkpoint=True, retries=1))
    more(found, ev.Planned(count=2), submitting(1), ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1))
    more(found, submitting(2), job(3, by=2), ev.Succeeded(job=2, attempt=1, added=1), submitting(3))
    more(found, ev.Retrying(job=1, attempt=1, reason="LOST"), ev.Failed(job=3, attempt=1, reason="FAILED"))
    more(found, ev.Rewound(job=2, failed=3))
    assert state_of(found, 2) is S.WAITING
    more(found, submitting(1, 2), ev.Running(job=1, attempt=2), ev.Serving(job=1, attempt=2))
    assert state_of(found, 2) is S.READY


def test_services_that_are_needed_again_start_one_after_the_other_again() -> None:
    found = told(
        job(1),
        job(2, serves=1, form="service"),
        job(3, serves=1, form="service", parents=[2]),
        job(4, parents=[1]),
        ev.Planned(count=4),
        *run_through(1),
    )
    for number in (2, 3):
        more(found, submitting(number), ev.Running(job=number, attempt=1), ev.Serving(job=number, attempt=1))
    more(found, submitting(4), ev.Failed(job=4, attempt=1, reason="FAILED"))
    more(found, ev.Succeeded(job=3, attempt=1), ev.Succeeded(job=2, attempt=1), ev.Ended(outcome="failed"))
    more(found, ev.Restarted())
    assert [state_of(found, number) for number in (2, 3, 4)] == [S.READY, S.WAITING, S.READY]


def test_a_call_is_looked_up_anew_where_nobody_has_heard_of_the_answer_or_the_code_has_changed() -> None:
    survey = msgspec.structs.replace(submitting(1), survey=True)
    surveyed = ev.Surveyed(job=1, attempt=1, resources=ev.Resources(), call=ev.Call(digest="d"))
    for news in ([ev.Recoded(bundle="new", previous="")], [ev.Requested(what="cancel"), ev.Restarted()]):
        found = told(job(1, cache=True), ev.Planned(count=1), survey, surveyed)
        assert list(found.state.surveyed) == [1]
        more(found, *news)
        assert (list(found.state.surveyed), list(found.state.ready), found.state.calls) == ([], [1], {})
        more(found, msgspec.structs.replace(submitting(1, 2), survey=True))


def test_files_for_a_while_are_those_of_the_attempt_whose_value_is_known() -> None:
    file = ev.StoredFile(path="f", keep="successors")
    found = told(job(1, checkpoint=True, retries=1), job(2, needs=[1]), ev.Planned(count=2), submitting(1))
    more(found, job(3, by=1), ev.Succeeded(job=1, attempt=1, added=1, files=[file]), submitting(3), submitting(2))
    more(found, ev.Failed(job=3, attempt=1, reason="FAILED"), ev.Rewound(job=1, failed=3), submitting(1, 2))
    more(found, ev.Succeeded(job=1, attempt=2, files=[file]))
    assert (found.state.keeping, found.state.removable) == ({1: {2}}, {})
    more(found, ev.Succeeded(job=2, attempt=1), ev.Removed(job=1, files=["f"]))


def test_a_leaf_whose_files_are_for_its_successors_only_has_none() -> None:
    file = ev.StoredFile(path="f", keep="successors")
    found = told(job(1), ev.Planned(count=1), submitting(1), ev.Succeeded(job=1, attempt=1, files=[file]))
    assert list(found.state.removable) == [1]


def test_a_call_is_looked_up_anew_after_the_service_of_its_job_was_away() -> None:
    survey = msgspec.structs.replace(submitting(2), survey=True)
    surveyed = ev.Surveyed(job=2, attempt=1, resources=ev.Resources(), call=ev.Call(digest="d"))
    lost = ev.Retrying(job=1, attempt=1, reason="LOST")
    for news in ([surveyed, lost], [lost, surveyed]):
        found = told(job(1, serves=0, form="service"), job(2, needs=[1], cache=True), ev.Planned(count=2))
        more(found, submitting(1), ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1), survey, *news)
        more(found, submitting(1, 2), ev.Running(job=1, attempt=2), ev.Serving(job=1, attempt=2))
        assert (state_of(found, 2), found.state.jobs[2].survey, found.state.surveyed) == (S.READY, True, {})


def test_a_service_that_was_told_to_stop_before_the_run_was_mended_starts_again() -> None:
    found = told(job(1, serves=0, form="service"), job(2, needs=[1]), ev.Planned(count=2))
    more(found, submitting(1), ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1), submitting(2))
    more(found, ev.Failed(job=2, attempt=1, reason="FAILED"), ev.Restarted(), ev.Succeeded(job=1, attempt=1))
    assert (state_of(found, 1), state_of(found, 2)) == (S.READY, S.WAITING)


def test_a_service_comes_back_for_a_job_that_is_not_below_the_one_it_serves() -> None:
    """What takes its credentials elsewhere had failed; by then the job that it serves is done, and stays so."""
    service = job(2, serves=1, form="service")
    found = told(job(1), service, job(3, needs=[2]), ev.Planned(count=3), *run_through(1), submitting(2))
    more(found, ev.Running(job=2, attempt=1), ev.Serving(job=2, attempt=1), submitting(3))
    more(found, ev.Failed(job=3, attempt=1, reason="FAILED"), ev.Succeeded(job=2, attempt=1))
    assert (state_of(found, 1), state_of(found, 2)) == (S.DONE, S.DONE)
    more(found, ev.Ended(outcome="failed"), ev.Restarted())
    assert (state_of(found, 1), state_of(found, 2), state_of(found, 3)) == (S.DONE, S.READY, S.WAITING)
    more(found, submitting(2, 2), ev.Running(job=2, attempt=2), ev.Serving(job=2, attempt=2), submitting(3, 2))
    assert to_stop(found.state) == []
    more(found, ev.Succeeded(job=3, attempt=2))
    assert to_stop(found.state) == ["r.2.2"]
    more(found, ev.Succeeded(job=2, attempt=2), ev.Ended(outcome="succeeded"))
    assert found.state.idle == {}


def test_a_job_that_was_quicker_than_the_loss_of_its_service_waits_for_nothing_any_more() -> None:
    for lost in (ev.Retrying(job=1, attempt=1, reason="LOST"), ev.Failed(job=1, attempt=1, reason="FAILED")):
        found = told(job(1, serves=0, form="service"), job(2, needs=[1]), ev.Planned(count=2), submitting(1))
        more(found, ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1), submitting(2), lost)
        more(found, ev.Succeeded(job=2, attempt=1))
        assert state_of(found, 2) is S.DONE


def test_a_job_that_backs_off_does_so_although_its_service_is_lost_meanwhile() -> None:
    found = told(job(1, serves=0, form="service"), job(2, needs=[1]), ev.Planned(count=2), submitting(1))
    more(found, ev.Running(job=1, attempt=1), ev.Serving(job=1, attempt=1), submitting(2))
    more(found, ev.Retrying(job=2, attempt=1, reason="FAILED", wait=9.0))
    more(found, ev.Retrying(job=1, attempt=1, reason="LOST"))
    assert (state_of(found, 2), list(found.state.held)) == (S.WAITING, [2])
    more(found, submitting(1, 2), ev.Running(job=1, attempt=2), ev.Serving(job=1, attempt=2))
    assert (list(found.state.delayed), list(found.state.held)) == ([2], [])
