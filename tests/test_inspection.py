"""How jobs hang together, read from a state."""

from __future__ import annotations

from pathlib import Path

import pytest
from flows import related
from hypothesis import given
from hypothesis import strategies as st
from support.folded import Folded, begun, run_through

import orch
from orch.bus import events as ev
from orch.errors import NoSuchJob
from orch.inspection import Graph


def everything() -> Folded:
    """1 has the children 2 and 3, the follow-on 4 and the services 5 and 6 (below 5); 7 takes its value; 2 makes 8."""
    told = begun().then(
        ev.Added(job=1, kind="top"),
        ev.Added(job=2, kind="child", parents=[1]),
        ev.Added(job=3, kind="child", parents=[1], needs=[2]),
        ev.Added(job=4, kind="last", follows=[1]),
        ev.Added(job=5, kind="server", form="service", serves=1),
        ev.Added(job=6, kind="server", form="service", serves=1, parents=[5]),
        ev.Added(job=7, kind="user", needs=[1]),
        ev.Planned(count=7),
    )
    told.then(*run_through(1))
    for service in (5, 6):
        told.then(
            ev.Submitting(job=service, attempt=1, key=f"r.{service}.1"),
            ev.Running(job=service, attempt=1),
            ev.Serving(job=service, attempt=1),
        )
    return told.then(
        ev.Submitting(job=2, attempt=1, key="r.2.1"),
        ev.Added(job=8, kind="made", by=2, attempt=1),
        ev.Succeeded(job=2, attempt=1, added=1),
    )


def test_who_is_what_to_whom() -> None:
    graph = Graph(everything().state)
    assert graph.children(1) == ["2", "3"]
    assert graph.children("2") == ["8"]
    assert graph.follow_ons("1") == ["4"]
    assert graph.services(1) == ["5", "6"]
    assert graph.services(2) == []
    assert graph.predecessors(3) == ["2", "1"]
    assert graph.predecessors(6) == ["5", "1"]
    assert graph.predecessors(8) == ["2"]
    assert graph.roots == ["1"]
    assert graph.children(0) == ["1", "7"]
    assert graph.predecessors(0) == []
    assert list(graph) == [str(job) for job in range(1, 9)]
    assert len(graph) == 8


def test_children_and_all_below_them_come_before_follow_ons() -> None:
    order = Graph(everything().state).order()
    assert sorted(order) == [str(job) for job in range(1, 9)]
    place = {int(job): position for position, job in enumerate(order)}
    assert place[1] < place[5] < place[6] < min(place[2], place[3])
    assert place[2] < place[3]
    assert place[4] > max(place[2], place[3], place[8])
    assert place[1] < place[7]


@pytest.mark.parametrize("job", ["9", 99, "one", -1])
def test_a_job_that_there_is_not(job: str | int) -> None:
    with pytest.raises(NoSuchJob):
        Graph(everything().state).children(job)


@given(st.data())
def test_any_graph_has_an_order(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    told = begun()
    for job in range(1, count + 1):
        earlier = st.lists(st.sampled_from(range(1, job)), unique=True, max_size=2) if job > 1 else st.just([])
        role = data.draw(st.sampled_from(["plain", "child", "follow-on"]))
        others = data.draw(earlier)
        told.then(
            ev.Added(
                job=job,
                kind="job",
                needs=others if role == "plain" else [],
                parents=others if role == "child" else [],
                follows=others[:1] if role == "follow-on" else [],
            )
        )
    graph = Graph(told.then(ev.Planned(count=count)).state)
    order = graph.order()
    if len(order) < count:  # a follow-on among its own predecessor's descendants: no leader would have accepted it
        return
    at = {job: position for position, job in enumerate(order)}
    for name in graph:
        assert all(at[other] < at[name] for other in graph.predecessors(name))
        for follow_on in graph.follow_ons(name):
            assert all(at[child] < at[follow_on] for child in graph.children(name))


def test_a_chain_that_is_very_deep() -> None:
    told = begun()
    for job in range(1, 20_001):
        told.then(ev.Added(job=job, kind="link", parents=[job - 1] if job > 1 else [0]))
    graph = Graph(told.then(ev.Planned(count=20_000)).state)
    assert graph.order() == [str(job) for job in range(1, 20_001)]


async def test_of_a_run_and_of_its_log(tmp_path: Path) -> None:
    """Follow-ons come after all below those that they follow, also where attempts have made them."""
    async with orch.Orchestrator(tmp_path / "s") as orchestrator:
        run = await orchestrator.start(related.tree, str(tmp_path / "said"))
        await run.result()
        live = run.graph
    graph = orch.replay(tmp_path / "s", run.id).graph
    assert graph.order() == live.order()
    name_of = {job: status.name for job, status in orch.replay(tmp_path / "s").items()}
    (top,) = graph.roots
    assert len(graph.children(top)) == 2
    assert [name_of[job] for job in graph.follow_ons(top)] == ["last", "a!"]
    place = {name_of[job]: position for position, job in enumerate(graph.order())}
    assert place["axx"] < place["ax!"] < place["a!"]
    assert place["ay!"] < place["last"] < place["very last"]
