"""Outcomes that no worker of ours makes do no harm."""

from __future__ import annotations

import pytest

from orch.attempt import NewJob, Outcome, Reason
from orch.state.react import consistent


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(key="r.1.1", reason=Reason.FINISHED, refs=[0]),
        Outcome(key="r.1.1", reason=Reason.FINISHED, refs=[-1], jobs=[NewJob(kind="a")]),
        Outcome(key="r.1.1", reason=Reason.FINISHED, alias=True),
        Outcome(key="r.1.1", reason=Reason.FINISHED, jobs=[NewJob(kind="a", needs=[0])]),
        Outcome(key="r.1.1", reason=Reason.FINISHED, jobs=[NewJob(kind="a", needs=[1]), NewJob(kind="b", needs=[0])]),
    ],
)
def test_an_outcome_that_names_what_it_has_not_is_seen(outcome: Outcome) -> None:
    assert not consistent(outcome)


def test_an_outcome_of_ours_is_consistent() -> None:
    jobs = [NewJob(kind="a"), NewJob(kind="b", needs=[0])]
    assert consistent(Outcome(key="r.1.1", reason=Reason.FINISHED, refs=[1, 0], jobs=jobs))


def test_new_jobs_may_stand_in_any_order() -> None:
    jobs = [NewJob(kind="a", needs=[2, 1]), NewJob(kind="b", needs=[2]), NewJob(kind="c")]
    assert consistent(Outcome(key="r.1.1", reason=Reason.FINISHED, refs=[0], jobs=jobs))
