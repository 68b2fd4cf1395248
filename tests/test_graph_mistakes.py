"""Graphs that cannot be: found before anything runs, in messages that name the jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import RUNNING, WORKFLOW, job, made, named

import orch
from orch.attempt import MAKER, NewJob
from orch.authoring.order import check_order
from orch.errors import GraphError, UserError

HERE = Path(__file__).name


def message_of(build: Any, who: Any = WORKFLOW) -> str:
    with pytest.raises(GraphError) as raised:
        made(build, who)
    return str(raised.value)


# When two jobs are related --------------------------------------------------------------------------------------------


def test_a_job_is_not_its_own_child() -> None:
    a = named("a")
    for add in (a.add_child, a["part"].add_follow_on, a.encapsulate().add_child):
        with pytest.raises(GraphError, match=r"job a.* cannot be its own (child|follow-on)"):
            add(add.__self__)


def test_nor_the_same_child_twice() -> None:
    a, b = named("a"), named("b")
    a.add_child(b)
    with pytest.raises(GraphError, match=r"^job b is already a child of job a$"):
        a.add_child(b)
    with pytest.raises(GraphError, match="job b is already a child of job a and cannot be a follow-on as well"):
        a.add_follow_on(b)


def test_nor_of_the_running_job() -> None:
    def build() -> Any:
        child = orch.context().add_child(named("b"))
        orch.context().add_child(child)

    assert message_of(build, RUNNING) == "job b is already a child of outer(1) [job 7]"
    assert message_of(build) == "job b is already a child of workflow main"


@pytest.mark.parametrize("what", [3, None, lambda: 1])
def test_only_jobs_can_be_children(what: Any) -> None:
    with pytest.raises(UserError, match=r"add_child: .* is no job"):
        named("a").add_child(what)
    with pytest.raises(UserError, match=r"add_follow_on: job is a job function; did you mean job\(…\)\?"):
        named("a").add_follow_on(job)


def test_a_checkpoint_has_no_successors_when_it_is_added() -> None:
    a = named("a", checkpoint=True)
    with pytest.raises(GraphError, match="b cannot be a child of job a, which is a checkpoint"):
        a.add_child(named("b"))
    with pytest.raises(GraphError, match="b cannot be a follow-on of job a, which is a checkpoint"):
        a.add_follow_on(named("b"))
    a.encapsulate().add_child(named("b"))


STRAY = named("stray")


def test_jobs_of_other_graphs_cannot_be_added() -> None:
    kept: list[Any] = []

    def first() -> Any:
        kept.append(named("old"))
        return kept[0]

    made(first)
    message = message_of(lambda: named("a").add_child(kept[0]))
    assert message.startswith("old cannot be a child of a: job old was made by another run or attempt, at ")
    assert "job old was made by another" in message_of(lambda: orch.context().add_child(kept[0]))
    assert "job stray was made outside of the workflow function" in message_of(lambda: STRAY.add_child(named("a")))


# When the graph is collected ------------------------------------------------------------------------------------------


def test_children_in_a_circle() -> None:
    def build() -> Any:
        a, b = named("a"), named("b")
        a.add_child(b)
        b.add_child(a)
        return a

    assert message_of(build) == "these jobs wait for each other: a is a child of b; b is a child of a"


def test_a_parent_that_needs_its_child() -> None:
    def build() -> Any:
        box: list[Any] = []
        a = named("a", box)
        box.append(a.add_child(named("b")))
        return a

    assert message_of(build) == (
        "job a waits for the value of b, which can only be known after a itself: b is a child of a"
    )


def test_a_child_that_needs_a_follow_on() -> None:
    def build() -> Any:
        f = named("f")
        g = f.add_follow_on(named("g"))
        f.add_child(named("c")).add_child(named("d", g))
        return f

    assert message_of(build) == (
        "job d waits for the value of g, which can only be known after d itself: "
        "g is a follow-on of f; c is a child of f; d is a child of c"
    )


def test_children_precede_follow_ons() -> None:
    def build() -> Any:
        f, c = named("f"), named("c")
        f.add_child(c)
        f.add_follow_on(named("g")).add_child(c)
        return f

    assert message_of(build) == (
        "these jobs wait for each other: g is a follow-on of f; c is a child of f; c is a child of g"
    )


def test_a_job_beside_a_follow_on_of_the_workflow_is_its_child() -> None:
    def build() -> Any:
        last = orch.context().add_follow_on(named("last"))
        return named("user", last)

    expected = (
        "job user waits for the value of last, which can only be known after user itself: "
        "last is a follow-on of {0}; user is a child of {0}"
    )
    assert message_of(build) == expected.format("workflow main")
    assert message_of(build, RUNNING) == expected.format("outer(1) [job 7]")


def test_a_job_in_a_capsule_cannot_wait_for_its_end() -> None:
    def build() -> Any:
        a = named("a")
        capsule = a.encapsulate()
        a.add_child(named("b", capsule))
        return capsule

    assert message_of(build).startswith("job b waits for the value of a: end, which can only be known after b itself")


def test_long_circles_are_shortened() -> None:
    def build() -> Any:
        first = last = named("first")
        for number in range(1000):
            last = last.add_child(named(f"{number}"))
        last.add_child(first)
        return first

    assert len(message_of(build)) < 400


def test_deep_circles_through_follow_ons_are_found() -> None:
    def build() -> Any:
        first = last = named("first")
        end = first.add_follow_on(named("end"))
        for number in range(10_000):
            last = last.add_child(named(f"{number}"))
        last.add_child(named("deep", end))
        return first

    assert message_of(build).startswith("job deep waits for the value of end")


def test_jobs_that_nothing_leads_to_are_named_with_their_lines() -> None:
    def build() -> Any:
        a = job.options(name="a")("x")
        b = job.options(name="b")("y")
        a.add_child(b)
        return 1

    line = build.__code__.co_firstlineno
    assert message_of(build) == (
        "these jobs are children, follow-ons or services of each other, and nothing leads to them: "
        f"a (made at {HERE}:{line + 1}), b (made at {HERE}:{line + 2}). Return one of them, pass it to a job that "
        "runs, or add it: orch.context().add_child(…)"
    )


def test_many_such_jobs_are_not_all_named() -> None:
    def build() -> Any:
        a = named("a")
        for number in range(100):
            a.add_child(named(f"{number}"))

    assert "… and 93 more" in message_of(build)


def test_a_job_that_is_only_unused_stays_a_warning() -> None:
    def build() -> Any:
        named("unused")
        named("a").add_child(child := named("b"))
        return child

    assert len(made(build).warnings) == 1


# Against the meaning of it --------------------------------------------------------------------------------------------


def can_finish(jobs: list[NewJob]) -> bool:
    """Runs the jobs in rounds, straight from what the relations mean, and says whether all get their turn."""
    places = {
        number: ([MAKER] if not (new.parents or new.follows or new.serves is not None) else new.parents)
        for number, new in enumerate(jobs)
    }
    ran, over, done = {MAKER}, set(), set()
    everyone = range(MAKER, len(jobs))
    first = min((number for number, new in enumerate(jobs) if new.serves == MAKER), default=len(jobs))

    def served(number: int) -> bool:
        return all(other in ran for other, new in enumerate(jobs) if new.serves == number)

    def users(number: int) -> set[int]:
        """Who takes the credentials of its services, wherever that is: they stay up until then."""
        return {user for user, new in enumerate(jobs) if any(jobs[need].serves == number for need in new.needs)}

    def may_run(number: int) -> bool:
        new = jobs[number]
        if new.serves is not None:
            return new.serves in ran and all(parent in ran for parent in new.parents)
        waits = places[number] if new.parents or number > first else []
        return all(upper in ran and served(upper) for upper in waits) and all(f in over for f in new.follows)

    for _ in range(4 * len(jobs) + 4):
        ran |= {n for n in everyone if n != MAKER and may_run(n) and all(need in ran for need in jobs[n].needs)}
        children = {n: [c for c, new in enumerate(jobs) if new.serves is None and n in places[c]] for n in everyone}
        over |= {n for n in ran if served(n) and all(child in done for child in children[n])}
        done |= {
            n for n in over if users(n) <= ran and all(f in done for f, new in enumerate(jobs) if n in new.follows)
        }
    return len(ran) == len(jobs) + 1


@st.composite
def graphs(draw: st.DrawFn) -> list[NewJob]:
    """Jobs whose direct relations lead to earlier ones only, as a collected graph's do."""
    jobs: list[NewJob] = []
    for number in range(draw(st.integers(1, 7))):
        earlier = st.lists(st.integers(0, number - 1), max_size=2, unique=True) if number else st.just([])
        upper = st.lists(st.integers(MAKER, number - 1), max_size=2, unique=True)
        workers = [n for n in range(number) if jobs[n].serves is None]
        if draw(st.integers(0, 4)) == 0:
            serves = draw(st.sampled_from([MAKER, *workers]))
            same = [n for n in range(number) if jobs[n].serves == serves]
            parents = draw(st.lists(st.sampled_from(same), max_size=1)) if same else []
            jobs.append(NewJob(kind="s", needs=draw(earlier), serves=serves, parents=parents))
            continue
        parents = [n for n in draw(upper) if n == MAKER or n in workers]
        follows = [n for n in draw(upper) if (n == MAKER or n in workers) and n not in parents]
        jobs.append(NewJob(kind="j", needs=draw(earlier), parents=parents, follows=follows))
    return jobs


@given(graphs())
@settings(max_examples=400, deadline=None)
def test_a_graph_is_refused_exactly_if_it_would_get_stuck(jobs: list[NewJob]) -> None:
    refused = False
    try:
        check_order(jobs, "the workflow")
    except GraphError:
        refused = True
    assert refused == (not can_finish(jobs))
