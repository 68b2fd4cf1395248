"""Which attempt starts next: order, limits, places that are held, and that never more is promised than there is."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.admitting import GPUS, Desk

from orch.agent.admission import PATIENCE, STAY
from orch.agent.devices import suits
from orch.agent.model import Run, Shape, Task
from orch.bus.events import Accelerator, Resources

# Order and limits ------------------------------------------------------------------------------------------------


def test_the_oldest_first_and_no_more_than_there_is() -> None:
    desk = Desk(cores=2)
    tasks = [desk.ask("a") for _ in range(4)]
    assert desk.let_in() == tasks[:2]
    desk.release(tasks[1])
    assert desk.let_in() == [tasks[2]]


def test_fractions_of_cores_add_up() -> None:
    desk = Desk(cores=1)
    tasks = [desk.ask("a", cores=0.1) for _ in range(11)]
    assert desk.let_in() == tasks[:10]
    desk.release(*tasks[:10])
    assert abs(desk.admission.cores) < 1e-6


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_memory_and_disk_are_counted_too(what: str) -> None:
    desk = Desk()
    asked: Callable[..., Task] = desk.ask
    tasks = [asked("a", **{what: 60}), asked("a", **{what: 60}), asked("a", **{what: 40})]
    assert desk.let_in() == [tasks[0], tasks[2]]


def test_runs_take_turns() -> None:
    desk = Desk(cores=4)
    first = [desk.ask("a") for _ in range(10)]
    second = [desk.ask("b") for _ in range(10)]
    assert set(desk.let_in()) == {*first[:2], *second[:2]}


def test_a_run_keeps_its_turn_for_warm_workers_for_a_moment() -> None:
    desk = Desk(cores=2)
    first = [desk.ask("a", pool="bundle") for _ in range(6)]
    second = [desk.ask("b", pool="bundle") for _ in range(6)]
    begun = desk.clock
    assert desk.let_in(begun) == first[:2]
    desk.release(*first[:2])
    assert desk.let_in(begun + STAY / 2) == first[2:4]
    desk.release(*first[2:4])
    assert desk.let_in(begun + 1.1 * STAY) == [first[4], second[0]]
    desk.release(first[4])
    assert desk.let_in(begun + 1.5 * STAY) == [second[1]]


def test_a_run_that_keeps_its_turn_and_has_nothing_more_holds_nobody_up() -> None:
    desk = Desk(cores=2)
    first = [desk.ask("a", pool="bundle")]
    second = [desk.ask("b", pool="bundle"), desk.ask("b")]
    assert desk.let_in() == [*first, second[0]]
    desk.release(*first)
    assert desk.let_in() == [second[1]]


@pytest.mark.parametrize(("limits", "most"), [({"cores": 3}, 3), ({"memory": 20}, 2), ({"disk": 5}, 1)])
def test_a_runs_own_limits_hold(limits: dict[str, Any], most: int) -> None:
    desk = Desk(cores=4)
    tasks = [desk.ask("a", memory=10, disk=5) for _ in range(4)]
    desk.limit("a", **limits)
    assert desk.let_in() == tasks[:most]
    desk.limit("a")
    assert desk.let_in() == tasks[most:]


def test_what_is_short_for_good_and_at_the_moment_is_said_for_people() -> None:
    desk = Desk(memory=4 << 30, disk=8 << 30, devices=GPUS)
    desk.limit("a", memory=2 << 30)
    many = Accelerator("gpu", 2, "k80")
    wanted = Shape(1, 3 << 30, 0, "", (Accelerator("gpu", 4),))
    assert desk.admission.short(desk.runs["a"], wanted) == (
        "memory: wanted 3 GiB, available 2 GiB; "
        "accelerators: wanted 4 gpu, available 1 gpu nvidia-a100, 2 gpu nvidia-tesla-k80"
    )
    desk.ask("a", memory=1 << 30, disk=3 << 30, accelerators=(many,))
    waits = desk.ask("a", cores=8, memory=3 << 29, disk=6 << 30, accelerators=(many,))
    desk.let_in()
    assert desk.admission.waits_for(waits.run, waits.shape) == (
        "cores: 8 wanted, 3 of 4 free; memory: 1.5 GiB wanted, 1 GiB of 2 GiB free; "
        "disk: 6 GiB wanted, 5 GiB of 8 GiB free; "
        "accelerators: 2 gpu k80 wanted, 1 gpu nvidia-a100 of 1 gpu nvidia-a100, 2 gpu nvidia-tesla-k80 free"
    )


def test_what_is_removed_from_the_queue_does_not_come() -> None:
    desk = Desk(cores=1)
    tasks = [desk.ask("a") for _ in range(3)]
    desk.admission.remove(tasks[1])
    assert desk.let_in() == tasks[:1]
    desk.release(tasks[0])
    assert desk.let_in() == tasks[2:]
    assert desk.admission.waiting == 0


def test_a_higher_priority_comes_first_within_its_run() -> None:
    desk = Desk(cores=1)
    low, high, middle, other = (
        desk.ask("a"), desk.ask("a", priority=9), desk.ask("a", priority=5), desk.ask("b")
    )  # fmt: skip
    found = []
    while tasks := desk.let_in():
        found += tasks
        desk.release(*tasks)
    assert [task for task in found if task is not other] == [high, middle, low]
    assert found.index(other) == 1


def test_a_place_that_is_inherited_goes_to_nobody_else() -> None:
    desk = Desk(cores=1)
    first, other = desk.ask("a"), desk.ask("b")
    assert desk.let_in() == [first]
    link = desk.ask("a")
    desk.admission.remove(link)
    desk.release(first)
    desk.admission.inherit(link, desk.clock)
    assert desk.let_in() == [link]
    desk.release(link)
    assert desk.let_in() == [other]


def test_one_that_has_inherited_its_place_can_be_removed() -> None:
    desk = Desk(cores=1)
    link = desk.ask("a")
    desk.admission.remove(link)
    desk.admission.inherit(link, 0.0)
    assert (desk.admission.waiting, desk.admission.cores) == (1, 1)
    desk.admission.remove(link)
    assert (desk.admission.waiting, desk.admission.cores) == (0, 0)


# Devices ---------------------------------------------------------------------------------------------------------


def test_devices_are_given_once_each_and_the_model_counts() -> None:
    desk = Desk(cores=9, devices=GPUS)
    any_one, k80, a100 = Accelerator("gpu"), Accelerator("gpu", 1, "tesla-k80"), Accelerator("gpu", 1, "a100")
    tasks = [desk.ask("a", accelerators=(each,)) for each in (k80, a100, any_one, any_one)]
    assert desk.let_in() == tasks[:3]
    assert {device for task in tasks for device in task.devices} == set(GPUS)
    assert tasks[1].devices == (GPUS[2],)
    desk.release(tasks[1])
    assert desk.let_in() == tasks[3:]
    assert tasks[3].devices == (GPUS[2],)


# Places that are held --------------------------------------------------------------------------------------------


def test_small_ones_do_not_keep_a_large_one_out_for_ever() -> None:
    desk = Desk(cores=2)
    small = [desk.ask("a") for _ in range(2)]
    assert desk.let_in() == small
    desk.release(small[0])
    large = desk.ask("a", cores=2)
    quick = desk.ask("a")
    assert desk.let_in() == [quick]  # back-fill
    desk.release(quick)
    later = desk.ask("b")
    assert desk.let_in(desk.clock + PATIENCE + 1) == []
    desk.release(small[1])
    assert desk.let_in(desk.clock + PATIENCE + 1) == [large]
    desk.release(large)
    assert desk.let_in(desk.clock + PATIENCE + 1) == [later]


def held(desk: Desk, large: dict[str, Any], small: dict[str, Any]) -> tuple[Task, Task, float]:
    """A desk at which one small one runs, and a place is held for a large one: small, large, and the time."""
    runs = desk.ask("a", **small)
    assert desk.let_in() == [runs]
    waits = desk.ask("a", **large)
    passes = desk.ask("b")
    assert desk.let_in() == [passes]
    desk.release(passes)
    now = desk.clock + PATIENCE + 1
    desk.clock = now
    return runs, waits, now


def test_what_fits_beside_the_large_one_is_not_held_up() -> None:
    desk = Desk(cores=4)
    runs, large, now = held(desk, {"cores": 3}, {"cores": 2})
    beside, too_much = desk.ask("b"), desk.ask("b")
    assert desk.let_in(now) == [beside]
    desk.release(runs)
    assert desk.let_in(now) == [large]
    desk.release(large)
    assert desk.let_in(now) == [too_much]


def test_what_ends_before_the_large_one_could_start_is_not_held_up() -> None:
    desk = Desk(cores=4)
    runs, large, now = held(desk, {"cores": 4}, {"cores": 2, "walltime": 1000})
    long, short = desk.ask("b", walltime=2000), desk.ask("b", walltime=500)
    assert desk.let_in(now) == [short]
    desk.release(short)
    assert desk.let_in(now + 600) == []  # another 500 seconds would be too long, and `long` is
    assert long in long.run.queues[long.line]
    desk.release(runs)
    assert desk.let_in(now + 600) == [large]


def test_what_is_held_up_by_its_runs_own_limit_holds_up_no_other_run() -> None:
    desk = Desk(cores=8)
    desk.limit("a", cores=3)
    _, large, now = held(desk, {"cores": 3}, {"cores": 2})
    own, others = desk.ask("a"), [desk.ask("b") for _ in range(3)]
    assert desk.let_in(now) == others
    assert large in large.run.queues[large.line]
    assert own in own.run.queues[own.line]


def test_a_higher_priority_passes_all_the_same() -> None:
    desk = Desk(cores=4)
    _, _, now = held(desk, {"cores": 4}, {"cores": 2})
    low, high = desk.ask("a"), desk.ask("a", priority=1)
    assert desk.let_in(now) == [high]
    assert low in low.run.queues[low.line]


def test_a_chain_makes_way_for_what_a_place_is_held_for() -> None:
    desk = Desk(cores=2)
    runs, large, now = held(desk, {"cores": 2}, {"cores": 1})
    link = desk.ask("a")
    desk.admission.remove(link)
    desk.release(runs)
    desk.admission.inherit(link, now)
    assert desk.let_in(now) == [large]


# Whatever comes --------------------------------------------------------------------------------------------------

models = st.sampled_from(["", "k80", "nvidia"])
wants = st.builds(
    Resources,
    cores=st.sampled_from([0.1, 0.5, 1.0, 2.0, 4.0]),
    memory=st.integers(0, 100),
    disk=st.integers(0, 100),
    walltime=st.sampled_from([0.0, 5.0, 50.0]),
    accelerators=st.lists(
        st.builds(Accelerator, kind=st.just("gpu"), count=st.integers(1, 2), model=models),
        max_size=2,
    ).map(tuple),
)  # fmt: skip
limits = st.fixed_dictionaries(
    {}, optional={"cores": st.integers(1, 4), "memory": st.integers(1, 100), "disk": st.integers(1, 100)}
)
steps = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abc"), wants, st.integers(-1, 1)),
    st.tuples(st.just("limit"), st.sampled_from("abc"), limits),
    st.tuples(st.just("release"), st.integers(0, 10)),
    st.tuples(st.just("remove"), st.integers(0, 10)),
    st.tuples(st.just("inherit"), st.integers(0, 10)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, PATIENCE, 100.0])),
)


class Office(Desk):
    """A desk that is watched: what has been let in, and what waits."""

    def __init__(self) -> None:
        super().__init__(devices=GPUS)
        self.inside: list[Task] = []
        self.outside: list[Task] = []

    def act(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("ask", run, wanted, priority):
                self.outside.append(self.ask_now(run, wanted, priority))
            case ("limit", run, limits):
                self.limit(run, **limits)
            case ("wait", seconds):
                self.clock += seconds
            case ("release", which) if self.inside:
                self.release(self.inside.pop(which % len(self.inside)))
            case ("remove", which) if self.outside:
                self.admission.remove(self.outside.pop(which % len(self.outside)))
            case ("inherit", which) if self.inside:
                self.inherit(self.inside.pop(which % len(self.inside)))
        self._let_in()

    def inherit(self, task: Task) -> None:
        """A link of the same shape takes its place."""
        link = self.ask_now(task.run.name, task.attempt.resources)
        self.admission.remove(link)
        self.release(task)
        self.admission.inherit(link, self.clock)
        self.outside.append(link)

    def _let_in(self) -> None:
        for task in self.let_in():
            self.outside.remove(task)
            self.inside.append(task)
            self.check(task)

    def check(self, newest: Task) -> None:
        totals = self.admission.totals
        for tasks, most in [
            (self.inside, totals),
            ([task for task in self.inside if task.run is newest.run], self.admission.limits(newest.run)),
        ]:
            assert sum(task.shape.cores for task in tasks) <= most.cores + 1e-6
            assert sum(task.shape.memory for task in tasks) <= most.memory
            assert sum(task.shape.disk for task in tasks) <= most.disk
        given_away = [device for task in self.inside for device in task.devices]
        assert len(given_away) == len(set(given_away))
        left = list(newest.devices)
        for wanted in sorted(newest.shape.accelerators, key=lambda each: -len(each.model)):
            for _ in range(wanted.count):
                left.remove(next(device for device in left if suits(device, wanted)))
        assert left == []


@given(st.lists(steps, max_size=60))
@settings(max_examples=300, deadline=None)
def test_never_more_is_promised_than_there_is(plan: list[tuple[Any, ...]]) -> None:
    office = Office()
    for step in plan:
        office.act(step)
        assert office.admission.waiting == len(office.outside)
    while office.inside:
        office.act(("release", 0))
    office.release(*office.inside)
    assert (round(office.admission.cores, 6), office.admission.memory, office.admission.disk) == (0, 0, 0)
    assert office.admission.free == set(GPUS)
    for task in office.outside:  # with the host empty, only what can never have room still waits
        assert office.admission.short(task.run, task.shape) or not office.admission.fits(task.run, task.shape)


jobs = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.sampled_from([0.5, 1.0, 2.0]),
        st.sampled_from([1.0, 4.0, 20.0]),
        st.booleans(),
        st.sampled_from("ab"),
    ),
    min_size=20,
    max_size=60,
)


@given(jobs, st.floats(0, 20), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_stream_of_small_ones_does_not_starve_a_large_one(
    plan: list[tuple[float, float, float, bool, str]], arrival: float, honest: bool
) -> None:
    """Small ones come again and again, faster than they can be served. The large one needs the whole host.

    Of others that have been passed for long as well, a line each, a place may be held for those first.
    """
    desk = Desk(cores=4)
    stream = itertools.cycle(plan)
    events: list[tuple[float, int, str, Any]] = [(0.0, 0, "small", next(stream)), (arrival, 1, "large", None)]
    numbers = itertools.count(2)
    large, durations, passed = None, {}, math.inf
    longest = max(duration for _, _, duration, _, _ in plan)
    others = len({(cores, known and duration, run) for _, cores, duration, known, run in plan})
    while large is None or not large.reserved:
        now, _, what, data = heapq.heappop(events)
        desk.clock = now
        assert now <= passed + PATIENCE + (1 + others) * longest + 1, "it is starved"
        if what == "small":
            pause, cores, duration, known, run = data
            walltime = duration if known and honest else 0.0
            durations[desk.ask_now(run, Resources(cores, walltime=walltime))] = duration
            heapq.heappush(events, (now + min(max(pause, 0.1), 0.5), next(numbers), "small", next(stream)))
        elif what == "large":
            large = desk.ask_now("a", Resources(4))
        else:
            desk.release(data)
        for task in desk.let_in(now):
            if large is not None and task.queued_at > large.queued_at and _is_next(large):
                passed = min(passed, now)
            if task is not large:
                heapq.heappush(events, (now + durations[task], next(numbers), "over", task))


def _is_next(task: Task) -> bool:
    """Is it the oldest of its run that waits?"""
    return all(queue[0].queued_at >= task.queued_at for queue in task.run.queues.values())


def test_other_runs_that_hold_the_host_are_named() -> None:
    desk = Desk(cores=4, memory=10 << 30, devices=GPUS[:1])
    gpu = (Accelerator("gpu"),)
    for run, cores in (("a", 1), ("b", 1), ("b", 1), ("c", 0.5), ("d", 0.25)):
        desk.ask(run, cores, memory=1 << 30, accelerators=gpu if run == "a" else ())
    desk.ask("mine", 0.25)
    waits = desk.ask("mine", 2)
    assert len(desk.let_in()) == 6
    said = desk.admission.waits_for(waits.run, waits.shape)
    assert said == (
        "cores: 2 wanted, 0 of 4 free; run b holds 2 cores, 2 GiB of memory; run a holds 1 cores, 1 GiB of memory, "
        "1 gpu nvidia-tesla-k80; run c holds 0.5 cores, 1 GiB of memory; 1 more runs hold some"
    )


def test_other_runs_are_not_to_blame_for_a_limit_of_its_own() -> None:
    desk = Desk(cores=4)
    desk.limit("mine", cores=1)
    desk.ask("other")
    desk.ask("mine")
    waits = desk.ask("mine")
    desk.let_in()
    assert desk.admission.waits_for(waits.run, waits.shape) == "cores: 1 wanted, 0 of 1 free"


def test_on_a_full_host_none_of_many_runs_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(cores=2)
    for number in range(50):
        desk.ask(f"run{number}", 1 + number % 2)
    assert sum(task.shape.cores for task in desk.let_in()) == 2
    looked: list[Shape] = []
    fits = desk.admission.fits

    def look(run: Run, shape: Shape) -> bool:
        looked.append(shape)
        return fits(run, shape)

    monkeypatch.setattr(desk.admission, "fits", look)
    assert desk.let_in() == []
    assert not looked
    small = desk.ask("small", 0)
    assert desk.let_in() == [small]
    assert looked


def test_a_line_goes_with_the_last_that_was_in_it() -> None:
    desk = Desk()
    tasks = [desk.ask("a", memory=memory) for memory in (1, 2, 1)]
    lines = desk.runs["a"].lines
    assert tasks[0].line is tasks[2].line is not tasks[1].line
    assert len(lines) == 2
    desk.release(*desk.let_in())
    tasks.clear()
    assert len(lines) == 0
