"""Rows, packed and unpacked: a table is to its users what a dictionary is. And lines: what an ordered dictionary is."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch.bus.events import Resources, Retry, Usage
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.queue import Line
from orch.state.table import Table


def full_row(job: int) -> Job:
    """A row with something in each kind of field."""
    return Job(
        job, "kind", f"name ü {job}", job * 5, 7, "pool", [1, 2], Resources(cores=0.5, memory=2**40), 3,
        Retry(backoff=0.1, on=("exit:3",)), state=JobState.DONE, refs=[3], made_from=4, made_to=9, exit_code=0,
        usage=Usage(wall=0.1), annotations={"a": [1, None, "x"]}, over_at="2026-01-01T00:00:00.000000Z",
    )  # fmt: skip


def test_a_row_comes_back_as_it_was() -> None:
    table = Table(Job, hot=1)
    rows = {job: full_row(job) for job in range(1, 300)}
    for job in rows:
        table[job] = full_row(job)
    table.cool()
    assert table.packed == 298
    assert dict(table.items()) == rows
    assert {job: table[job] for job in reversed(list(table))} == rows
    assert table.packed == 0


def test_what_somebody_holds_stays_the_same_object() -> None:
    table = Table(Job, hot=1)
    for job in range(1, 10):
        table[job] = full_row(job)
    mine, one = [table[3], table[5]], table[7]
    table.cool()
    assert table.packed == 5
    assert (table[3], table[5], table[7]) == (mine[0], mine[1], one)
    assert table[3] is mine[0]
    assert table[7] is one
    del mine, one
    for job in range(10, 20):
        table[job] = full_row(job)
    table.cool()
    assert table.packed == 18


def test_where_very_many_are_held_they_are_seldom_gone_through() -> None:
    table, held, looks = Table(Job, hot=1), list[Job](), 0
    for job in range(1, 2000):
        table[job] = full_row(job)
        held.append(table[job])
        looks += table.too_many
        table.cool()
    assert looks < 20
    assert table.packed == 0


def test_a_look_changes_nothing() -> None:
    table = Table(Job, hot=1)
    for job in range(1, 10):
        table[job] = full_row(job)
    table.cool()
    packed = table.packed
    assert [row.id for row in table.values()] == list(range(1, 10))
    assert table.packed == packed
    assert [row.id for row in table.where(lambda row: row.id in (2, 3))] == [2, 3]
    assert table.packed < packed


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "change", "drop", "cool", "look", "get"]), st.integers(1, 40)), max_size=200
)


@given(STEPS, st.integers(1, 5))
@settings(deadline=None)
def test_a_table_is_a_dictionary(steps: list[tuple[str, int]], hot: int) -> None:
    table, plain, added = Table(Job, hot=hot), dict[int, Job](), 0
    for number, (what, job) in enumerate(steps):
        if what == "add":  # jobs come in order
            added += 1
            table[added], plain[added] = Job(added, "k", f"n{number}", number), Job(added, "k", f"n{number}", number)
        elif what == "change" and job in plain:
            table[job].host = plain[job].host = f"h{number}"
        elif what == "drop" and job in plain:
            table.drop(job)
            del plain[job]
        elif what == "cool":
            table.cool()
        elif what == "look" and job in plain:
            assert table.look(job) == plain[job]
        assert table.get(job) == plain.get(job)
        assert (job in table) == (job in plain)
        assert len(table) == len(plain)
        assert bool(table) == bool(plain)
    assert list(table) == sorted(plain)
    assert dict(table.items()) == plain
    with pytest.raises(KeyError):
        table[201]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8), st.integers(0, 9)), max_size=300))
@settings(deadline=None)
def test_a_line_is_an_ordered_dictionary(steps: list[tuple[bool, int, int]]) -> None:
    line, plain = Line(), OrderedDict[int, None]()
    for add, job, most in steps:
        if add and job not in plain:
            line.add(job)
            plain[job] = None
        elif not add and job in plain:
            line.discard(job)
            del plain[job]
        assert line.take(most) == list(plain)[:most]
        assert list(line) == list(plain)
        assert (len(line), bool(line)) == (len(plain), bool(plain))


def test_a_long_line_is_made_shorter() -> None:
    line = Line()
    for job in range(100_000):
        line.add(job)
    for job in range(90_000):
        assert line.take(1) == [job]
        line.discard(job)
    assert len(line) == 10_000
    assert len(line._places) < 25_000


def test_a_state_of_many_jobs_is_packed_by_itself() -> None:
    state = State()
    state.jobs = Table(Job, hot=4)
    for job in range(1, 20):
        state.jobs[job] = full_row(job)
    row = state.jobs[2]
    state.cool()
    assert state.jobs.packed == 14
    assert state.jobs[2] is row
