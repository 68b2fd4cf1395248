"""From returned values to numbered, pickled jobs."""

from __future__ import annotations

import dataclasses
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attempts import World, gather, inline

import orch
from orch.authoring.collect import collect
from orch.authoring.pickling import dumps, loads
from orch.authoring.scope import Scope
from orch.bus.events import INLINE_LIMIT, Blob
from orch.errors import GraphError, WorkflowError


@orch.job
def inc(x: Any) -> Any:
    return x + 1


@orch.job
def total(xs: Any) -> Any:
    return sum(xs)


@orch.job
def keep(x: Any, *others: Any, **named: Any) -> Any:  # noqa: ARG001
    return x


def _hidden(x: Any) -> Any:
    return ("hidden", x)


renamed = orch.job(_hidden)
heavier = inc.options(cores=2)


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


class Slotted:
    __slots__ = ("inside",)

    def __init__(self, inside: Any) -> None:
        self.inside = inside


def body_of(job: Any) -> tuple[Any, ...]:
    body: tuple[Any, ...] = loads(gather(job).jobs[-1].body.data, lambda *reference: reference)
    return body


def test_a_value_without_jobs() -> None:
    parts = gather({"a": 1})
    assert pickle.loads(parts.value.data) == {"a": 1}
    assert (parts.refs, parts.jobs, parts.alias) == ([], [], False)


def test_exactly_one_job_is_a_tail_call() -> None:
    parts = gather(inc(inc(1)))
    assert (parts.alias, parts.refs, parts.value) == (True, [1], Blob())
    assert [new.needs for new in parts.jobs] == [[], [0]]


def test_a_part_of_a_job_is_no_tail_call() -> None:
    parts = gather(inc(1)["a"])
    assert not parts.alias
    assert loads(parts.value.data, lambda number, path: (number, path)) == (0, ("a",))


def test_jobs_stand_anywhere() -> None:
    jobs: list[Any] = [inc(n) for n in range(7)]
    value = [
        jobs[0],
        (jobs[1],),
        {"k": jobs[2], jobs[3]: 1},
        {jobs[4]},
        Pair(jobs[5], None),
        Slotted(jobs[6]),
        jobs[0],
    ]
    parts = gather(value)
    assert sorted(parts.refs) == list(range(7))
    found = loads(parts.value.data, lambda number, _: parts.refs[number] * 100)
    assert found[:2] == [0, (100,)]
    assert (found[4].left, found[5].inside, found[6]) == (500, 600, 0)


def test_a_job_that_is_needed_twice_is_one_job() -> None:
    shared: Any = inc(1)
    parts = gather(total([shared, shared["x"], inc(shared)]))
    assert [(new.kind, new.needs) for new in parts.jobs] == [("inc", []), ("inc", [0]), ("total", [0, 1])]


def test_bodies_are_small_and_name_the_function() -> None:
    parts = gather(inc(1))
    assert len(parts.jobs[0].body.data) < 100
    assert body_of(inc(1)) == (inc, (1,), {})
    assert body_of(heavier(1))[0] is inc  # the options are in the record, not in the body


def test_a_function_that_is_found_under_its_own_name_is_not_pickled() -> None:
    assert body_of(renamed(1))[0] is _hidden


def test_functions_without_an_importable_name_travel_by_value(tmp_path: Path) -> None:
    factor = 3
    triple = orch.job(lambda x: x * factor)

    @orch.job
    def down(n: int) -> Any:
        return down(n - 1) if n else triple(7)

    assert World(tmp_path).evaluate(down(3)) == 21


def test_a_chain_of_ten_thousand_jobs() -> None:
    job: Any = 0
    for _ in range(10_000):
        job = inc(job)
    parts = gather(job)
    assert [new.needs for new in parts.jobs[:3]] == [[], [0], [1]]
    assert parts.refs == [9_999]


def test_time_is_linear_in_the_number_of_jobs() -> None:
    def seconds(count: int) -> float:
        jobs = [inc(n) for n in range(count)]
        began = time.process_time()
        assert len(gather(total(jobs)).jobs) == count + 1
        return time.process_time() - began

    small = min(seconds(2_000) for _ in range(3))
    assert seconds(20_000) < 40 * small


def test_a_job_in_its_own_arguments() -> None:
    box: list[Any] = []
    job = keep(box)
    box.append(job)
    with pytest.raises(GraphError, match=r"job keep\(…\) needs its own value"):
        gather(job)


def test_a_cycle_names_its_jobs() -> None:
    box: list[Any] = []
    job = keep(inc(total(box)))
    box.append(job)
    with pytest.raises(GraphError, match=r"keep\(…\) → inc\(…\) → total\(…\) → keep\(…\)"):
        gather([1, job])


def test_a_long_cycle_is_shortened() -> None:
    box: list[Any] = []
    job: Any = total(box)
    for _ in range(1000):
        job = inc(job)
    box.append(job)
    with pytest.raises(GraphError) as raised:
        gather(job)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda bad: keep([1, 2, {"conn": bad}]), "job keep(…): argument 'x', item [2]['conn']: cannot pickle"),
        (keep, "job keep(…): argument 'x': cannot pickle '_thread.lock' object"),
        (lambda bad: keep(1, 2, bad), "argument 'others', item [1]: cannot pickle"),
        (lambda bad: keep(1, who=bad), "argument 'named', item ['who']: cannot pickle"),
        (lambda bad: keep(Pair(1, [bad])), "argument 'x', item .right[0]: cannot pickle"),
        (lambda bad: keep(Slotted(bad)), "argument 'x', item .inside: cannot pickle"),
        (lambda bad: keep(inc(1)[bad]), "argument 'x'"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_path(make: Any, message: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        gather([make(threading.Lock())])
    assert message in str(raised.value)


def test_a_returned_value_that_cannot_be_pickled() -> None:
    with pytest.raises(WorkflowError, match=r"the returned value, item \['a'\]\[0\]: cannot pickle '_thread.lock'"):
        gather({"a": [threading.Lock()], "b": inc(1)})


def test_values_nested_too_deeply_are_refused_and_do_no_harm() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        with pytest.raises(WorkflowError, match="nested too deeply"):
            gather(keep(deep))
    finally:
        while deep:  # the interpreter's own clearing would be as deep
            deep = deep.pop()


def test_user_code_may_raise_anything_while_it_is_pickled() -> None:
    class Odd:
        def __reduce__(self) -> Any:
            raise ZeroDivisionError("odd")

    with pytest.raises(WorkflowError, match="argument 'x', item \\[0\\]: cannot be pickled: ZeroDivisionError: odd"):
        gather(keep([Odd()]))


def test_large_bodies_and_values_are_kept_under_their_names() -> None:
    names: list[tuple[str, int]] = []

    def spy(name: str, data: bytes) -> Blob:
        names.append((name, len(data) > INLINE_LIMIT))
        return inline(name, data)

    collect([keep(b"x" * INLINE_LIMIT), inc(1)], [], spy)
    assert names == [("value", False), ("body0", True), ("body1", False)]


def unused_of(make: Any) -> list[str]:
    with Scope() as scope:
        value = make()
    return collect(value, scope.calls, inline, lambda file: Path(file).name).warnings


def test_jobs_that_nobody_uses_are_named_with_their_line() -> None:
    def make() -> Any:
        for n in range(3):
            inc(n)
        lost = total([inc(1)])  # what only lost jobs need is not named
        assert lost is not None
        return keep(1)

    first = make.__code__.co_firstlineno
    name = Path(__file__).name
    assert unused_of(make) == [
        f"3 jobs inc made at {name}:{first + 2} will not run: neither returned nor passed to another job",
        f"job total made at {name}:{first + 3} will not run: neither returned nor passed to another job",
    ]


def test_no_warning_where_everything_is_used() -> None:
    assert unused_of(lambda: [inc(inc(1)), total([inc(2)])["x"]]) == []


def test_unused_jobs_that_cannot_be_pickled_or_turn_in_circles() -> None:
    def make() -> Any:
        inc(threading.Lock())
        box: list[Any] = []
        box.append(inc(box))
        return 1

    assert len(unused_of(make)) == 1


def test_many_lines_of_unused_jobs_are_cut_short() -> None:
    lines = "\n".join(f"inc({n})" for n in range(50))
    warnings = unused_of(lambda: exec(lines, {"inc": inc}))
    assert len(warnings) == 21
    assert warnings[-1] == "… and such jobs made at 30 other lines"


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
KEYS = st.text(max_size=3) | st.integers(0, 3)
PLACES = st.tuples(st.integers(0, 5), st.lists(KEYS, max_size=2))
TREES = st.recursive(
    LEAVES.map(lambda leaf: ("leaf", leaf)) | PLACES.map(lambda place: ("job", place)),
    lambda inside: (
        st.lists(inside, max_size=3).map(lambda items: ("list", items))
        | st.lists(inside, max_size=3).map(lambda items: ("tuple", items))
        | st.dictionaries(KEYS, inside, max_size=3).map(lambda items: ("dict", items))
        | st.tuples(inside, inside).map(lambda items: ("pair", items))
    ),
    max_leaves=12,
)


def build(tree: Any, place: Any) -> Any:
    """The tree as a value, with `place(number, path)` where a job stands."""
    kind, inside = tree
    if kind == "leaf":
        return inside
    if kind == "job":
        return place(inside[0], tuple(inside[1]))
    if kind == "dict":
        return {key: build(item, place) for key, item in inside.items()}
    items = [build(item, place) for item in inside]
    return Pair(*items) if kind == "pair" else tuple(items) if kind == "tuple" else items


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_references_survive_pickling_in_any_value(tree: Any) -> None:
    jobs: list[Any] = [inc(n) for n in range(6)]

    def job(number: int, path: tuple[Any, ...]) -> Any:
        found = jobs[number]
        for key in path:
            found = found[key]
        return found

    data, calls = dumps(build(tree, job))
    assert len(set(calls)) == len(calls)
    number_of = {id(call): index for index, call in enumerate(one._call for one in jobs)}
    found = loads(data, lambda number, path: ("reference", number_of[id(calls[number])], path))
    assert found == build(tree, lambda number, path: ("reference", number, path))


@given(st.lists(st.lists(st.integers(0, 100), max_size=3), min_size=1, max_size=25), st.data())
@settings(max_examples=100, deadline=None)
def test_every_job_comes_after_what_it_needs(wishes: list[list[int]], data: Any) -> None:
    jobs: list[Any] = []
    for wish in wishes:
        jobs.append(keep([jobs[one % len(jobs)] for one in wish] if jobs else 1))
    roots = data.draw(st.lists(st.sampled_from(range(len(jobs))), min_size=1))
    parts = gather([jobs[root] for root in roots])
    for number, new in enumerate(parts.jobs):
        assert all(need < number for need in new.needs)
        assert len(set(new.needs)) == len(new.needs)
    assert len(set(parts.refs)) == len(parts.refs) == len(set(roots))
