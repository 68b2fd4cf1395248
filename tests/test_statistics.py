"""What the attempts of a run used: against a computation that is slow and plain."""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics as plain

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.bus import events as ev
from orch.statistics import MEASURES, SORTS, Group, Spread, sorted_groups, spread, statistics

GIB = 1 << 30
BEGIN = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


@dataclasses.dataclass(frozen=True)
class Tried:
    """An attempt of the run that is made up: its job, how it ends, and what it uses."""

    job: int
    reason: str
    host: str
    pid: int
    wait: int
    usage: ev.Usage


KINDS = ("align", "merge", "sort")


@dataclasses.dataclass(frozen=True)
class Story:
    """Jobs (kind, form, resources), and their attempts one after the other."""

    jobs: list[tuple[str, str, ev.Resources]]
    tried: list[Tried]


usages = st.builds(
    ev.Usage,
    wall=st.integers(0, 100).map(float),
    user=st.integers(0, 50).map(float),
    system=st.integers(0, 5).map(float),
    memory=st.sampled_from([0, GIB // 2, GIB, 3 * GIB]),
    disk=st.sampled_from([0, 1000, GIB]),
)
resources = st.builds(
    ev.Resources,
    cores=st.sampled_from([0.5, 1.0, 4.0]),
    memory=st.sampled_from([0, GIB, 2 * GIB]),
    disk=st.sampled_from([0, GIB]),
)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    jobs = draw(
        st.lists(
            st.tuples(st.sampled_from(KINDS), st.sampled_from(["fork", "pool"]), resources), min_size=1, max_size=8
        )
    )
    tried = []
    for job in range(1, len(jobs) + 1):
        ends = draw(st.lists(st.sampled_from(["LOST", "FAILED", "MEMLIMIT"]), max_size=3))
        last = draw(st.sampled_from(["FINISHED", "GIVEN UP", "KILLED", ""]))
        for reason in [*ends, *([last] if last else [])]:
            host, pid = draw(st.sampled_from(["h1", "h2", ""])), draw(st.integers(1, 2))
            tried.append(Tried(job, reason, host, pid, draw(st.integers(0, 20)), draw(usages)))
    return Story(jobs, tried)


class Clock:
    """Stamps events; time goes by only when it is told to."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.log: list[ev.Event] = []

    def say(self, *events: ev.Event) -> None:
        for event in events:
            self.log.append(msgspec.structs.replace(event, seq=len(self.log) + 1, time=self.now.isoformat()))

    def wait(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


def told(story: Story) -> list[ev.Event]:
    """The log of the run."""
    clock = Clock()
    clock.say(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
    for number, (kind, form, asked) in enumerate(story.jobs, start=1):
        clock.say(ev.Added(job=number, kind=kind, form=form, resources=asked))
    numbers = dict.fromkeys(range(1, len(story.jobs) + 1), 0)
    clock.say(ev.Planned(count=len(story.jobs)))
    planned = clock.now
    for one in story.tried:
        job = numbers[one.job] = numbers[one.job] + 1
        if job == 1:
            clock.now = planned  # all are ready at once; times may overlap
        clock.wait(one.wait)
        _attempt(clock, one, job)
    return clock.log


def _attempt(clock: Clock, one: Tried, number: int) -> None:
    base = {"job": one.job, "attempt": number}
    clock.say(ev.Submitting(**base, key=f"r.{one.job}.{number}"))  # type: ignore[arg-type]  # of **base
    if one.host:
        clock.say(ev.Running(**base, host=one.host, pid=one.pid))  # type: ignore[arg-type]
    clock.wait(one.usage.wall)
    if one.reason == "FINISHED":
        clock.say(ev.Succeeded(**base, usage=one.usage))  # type: ignore[arg-type]
    elif one.reason == "KILLED":
        clock.say(ev.Cancelled(**base, usage=one.usage))  # type: ignore[arg-type]
    elif one.reason == "GIVEN UP":
        clock.say(ev.Failed(**base, reason="FAILED", usage=one.usage))  # type: ignore[arg-type]
    else:
        clock.say(ev.Retrying(**base, reason=one.reason, usage=one.usage))  # type: ignore[arg-type]


def measured(one: Tried, measure: str) -> float | None:
    """What the attempt used; None where that is not known."""
    values = {
        "time": one.usage.wall,
        "cpu": one.usage.user + one.usage.system,
        "wait": one.wait,
        "memory": one.usage.memory or None,
        "disk": one.usage.disk or None,
    }
    return values[measure]


def expected_spread(values: list[float]) -> Spread:
    if not values:
        return Spread()
    mean, middle = plain.fmean(values), plain.median(values)
    return Spread(len(values), min(values), middle, mean, max(values), sum(values))


def check(group: Group, story: Story, tried: list[Tried]) -> None:
    """The group is about exactly these attempts."""
    asked = [story.jobs[one.job - 1][2] for one in tried]
    assert group.attempts == sum(group.ends.values()) == len(tried)
    for measure in MEASURES:
        known = [value for one in tried if (value := measured(one, measure)) is not None]
        assert getattr(group, measure) == expected_spread([float(value) for value in known]), measure
    held = [want.cores * one.usage.wall for one, want in zip(tried, asked, strict=True)]
    cpu = [one.usage.user + one.usage.system for one in tried]
    good = [one.reason == "FINISHED" for one in tried]
    assert group.asked.core_seconds == pytest.approx(sum(held))
    assert group.used.core_seconds == pytest.approx(sum(cpu))
    assert group.wasted.attempts == good.count(False)
    assert group.wasted.core_seconds == pytest.approx(sum(h for h, fine in zip(held, good, strict=True) if not fine))
    idle = [max(0, h - c) for h, c, fine in zip(held, cpu, good, strict=True) if fine]
    assert group.wasted.idle_core_seconds == pytest.approx(sum(idle))
    for what in ("memory", "disk"):
        pairs = [(getattr(want, what), getattr(one.usage, what)) for want, one in zip(asked, tried, strict=True)]
        assert getattr(group.asked, what) == sum(want for want, used in pairs if used)
        assert getattr(group.used, what) == sum(used for _, used in pairs)
        assert getattr(group.wasted, what) == sum(max(0, want - used) for want, used in pairs if used)


def worker(story: Story, one: Tried) -> str:
    pooled = story.jobs[one.job - 1][1] == "pool" and one.host
    return f"{one.host}, worker {one.pid}" if pooled else one.host


@given(stories())
def test_against_a_plain_computation(story: Story) -> None:
    found = statistics(told(story))
    check(found.total, story, story.tried)
    assert found.total.jobs == len(story.jobs)
    assert [group.name for group in found.kinds] == sorted({kind for kind, _, _ in story.jobs})
    for group in found.kinds:
        check(group, story, [one for one in story.tried if story.jobs[one.job - 1][0] == group.name])
        assert group.jobs == [kind for kind, _, _ in story.jobs].count(group.name)
    assert [group.name for group in found.workers] == sorted({worker(story, one) for one in story.tried})
    for group in found.workers:
        here = [one for one in story.tried if worker(story, one) == group.name]
        check(group, story, here)
        assert group.jobs == len({one.job for one in here})


@given(st.lists(st.floats(0, 1e9)))
def test_a_spread(values: list[float]) -> None:
    found = spread([*values, float("nan")])
    if values:
        assert (found.count, found.min, found.max) == (len(values), min(values), max(values))
        assert found.median == plain.median(values)
        assert found.total == pytest.approx(sum(values))
    else:
        assert found == Spread()


def test_what_is_asked_for_may_change_between_attempts() -> None:
    clock = Clock()
    clock.say(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
    clock.say(ev.Added(job=1, kind="k", resources=ev.Resources(memory=GIB)), ev.Planned(count=1))
    clock.say(ev.Submitting(job=1, attempt=1, key="r.1.1"), ev.Running(job=1, attempt=1, host="h1"))
    more = ev.Resources(memory=2 * GIB)
    used = ev.Usage(wall=1, memory=GIB)
    clock.say(ev.Retrying(job=1, attempt=1, reason="MEMLIMIT", resources=more, wait=6.0, usage=used))
    clock.wait(8)
    clock.say(ev.Submitting(job=1, attempt=2, key="r.1.2"), ev.Running(job=1, attempt=2, host="h1"))
    clock.say(ev.Succeeded(job=1, attempt=2, usage=msgspec.structs.replace(used, memory=GIB + GIB // 2)))
    found = statistics(clock.log).total
    assert found.asked.memory == 3 * GIB
    assert found.wasted.memory == GIB // 2
    assert found.wait.max == 2.0  # back-off is no waiting for a place


def test_what_a_checkpoint_has_dropped_was_in_vain() -> None:
    clock = Clock()
    clock.say(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
    clock.say(ev.Added(job=1, kind="safe", checkpoint=True, retries=1), ev.Planned(count=1))
    clock.say(ev.Submitting(job=1, attempt=1, key="r.1.1"))
    clock.say(*(ev.Added(job=job, kind="below", by=1, attempt=1) for job in (2, 3)))
    clock.say(ev.Succeeded(job=1, attempt=1, added=2))
    for job in (2, 3):
        clock.say(ev.Submitting(job=job, attempt=1, key=f"r.{job}.1"))
    clock.say(ev.Succeeded(job=2, attempt=1, usage=ev.Usage(wall=5.0)))
    clock.say(ev.Failed(job=3, attempt=1, reason="FAILED", usage=ev.Usage(wall=1.0)), ev.Rewound(job=1, failed=3))
    found = statistics(clock.log).total.wasted
    assert (found.attempts, found.core_seconds) == (2, 6.0)


def test_a_survey_asks_for_little() -> None:
    clock = Clock()
    clock.say(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
    much = ev.Resources(cores=8, memory=GIB)
    clock.say(ev.Added(job=1, kind="k", resources=much, cache=True), ev.Planned(count=1))
    used = ev.Usage(wall=10.0, memory=1000)
    for attempt in (1, 2):
        clock.say(ev.Submitting(job=1, attempt=attempt, key=f"r.1.{attempt}", survey=True))
        if attempt == 1:
            clock.say(ev.Retrying(job=1, attempt=1, reason="LOST", usage=used))
    clock.say(ev.Surveyed(job=1, attempt=2, resources=much, usage=used))
    found = statistics(clock.log).total
    assert found.ends == {"LOST": 1, "SURVEYED": 1}
    assert found.asked.core_seconds == pytest.approx(2.0)
    assert found.wasted.memory == 0
    assert found.wasted.attempts == 1


def test_the_largest_first() -> None:
    found = statistics(told(Story([("a", "fork", ev.Resources())], [])))
    one = found.total
    slow = msgspec.structs.replace(one, name="slow", time=Spread(total=2.0))
    quick = msgspec.structs.replace(one, name="quick", time=Spread(total=1.0))
    assert [group.name for group in sorted_groups([quick, slow], "time")] == ["slow", "quick"]
    assert [group.name for group in sorted_groups([slow, quick], "name")] == ["quick", "slow"]
    assert all(sorted_groups([one], field) == [one] for field in SORTS)
