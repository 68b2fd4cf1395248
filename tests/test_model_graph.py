"""A user of a service may be anywhere, but not after the end of the job that is served."""

from __future__ import annotations

import random

import pytest
from support.graphs import made, named
from support.random_graphs import random_jobs

import orch
from orch.authoring.order import check_order
from orch.errors import GraphError


class Database(orch.Service):
    def start(self) -> str:
        return "here"


def test_a_job_that_has_the_credentials_cannot_come_after_the_end_of_the_one_that_is_served() -> None:
    def build() -> object:
        top, host = named("top"), named("host")
        top.add_child(host)
        credentials = host.add_service(Database())
        top.add_follow_on(named("late", credentials))
        return top

    with pytest.raises(GraphError, match=r"late is a follow-on of top; .*late is a user of a service of host"):
        made(build)


def test_a_job_beside_the_one_that_is_served_may_have_them() -> None:
    def build() -> object:
        host = named("host")
        return [host, named("beside", host.add_service(Database()))]

    assert [new.name for new in made(build).jobs][-1] == "beside"


@pytest.mark.parametrize("seed", range(50))
def test_the_graphs_of_random_logs_and_stories_are_legal(seed: int) -> None:
    check_order(random_jobs(random.Random(seed), 8), "the maker")
