"""Outcomes that no worker of ours makes do no harm."""

from __future__ import annotations

import pytest

from orch.attempt import NewJob, Outcome, Reason
from orch.state.policy import Rules
from orch.state.react import added, consistent


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


@pytest.mark.parametrize(
    ("said", "setting", "cached"),
    [
        (None, "marked", False), (None, "all", True), (None, "off", False), (True, "marked", True),
        (True, "off", False), (False, "all", False), (False, "marked", False),
    ],
)  # fmt: skip
def test_which_jobs_may_take_earlier_values(said: bool | None, setting: str, cached: bool) -> None:
    """The job's own word counts before the run's, but for a run that wants none."""
    (job,) = added([NewJob(kind="job", cache=said)], 1, 0, 0, Rules(cache=setting))
    assert job.cache is cached
