"""The pure parts of the engine of batch systems: portions, paces, endings, settings, names of news."""

from __future__ import annotations

import signal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.adapters.batch import endings
from orch.adapters.batch.choices import Choices
from orch.adapters.batch.dialect import End
from orch.adapters.batch.news import Item, parse
from orch.adapters.batch.pace import Backoff, Rhythm, Turnstile
from orch.adapters.batch.portions import MARGIN, order_name, portions
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.events import EMPTY, Accelerator, Resources
from orch.errors import UserError
from orch.worker.spool import Claim, Ticket

MB = 1024 * 1024


def attempt(job: int, resources: Resources, priority: int = 0, name: str = "") -> Attempt:
    return Attempt(
        key=f"run.{job}.1",
        run="run",
        job=job,
        attempt=1,
        epoch=1,
        kind="kind",
        name=name,
        form="command",
        body=EMPTY,
        resources=resources,
        priority=priority,
    )


resources = st.builds(
    Resources,
    cores=st.sampled_from([0.1, 0.5, 1.0, 1.5, 4.0]),
    memory=st.sampled_from([0, MB, 512 * MB]),
    walltime=st.sampled_from([0.0, 90.0]),
    queue=st.sampled_from(["", "long"]),
    preemptible=st.booleans(),
    accelerators=st.sampled_from([(), (Accelerator("gpu", 1),)]),
)
attempts = st.lists(st.tuples(resources, st.integers(-2, 2)), max_size=40).map(
    lambda given: [attempt(job, wanted, priority) for job, (wanted, priority) in enumerate(given, 1)]
)


# Portions -------------------------------------------------------------------------------------------------------


@given(attempts, st.integers(1, 7), st.booleans())
def test_portions_have_everything_once_and_ask_enough_for_each(
    given: list[Attempt], most: int, pass_memory: bool
) -> None:
    choices = Choices(pass_memory=pass_memory)
    found = portions(given, choices, most, 30.0)
    handed = [each for portion in found for each in portion.attempts]
    assert sorted(each.job for each in handed) == [each.job for each in given]
    assert all(first.priority >= second.priority for first, second in pairwise(handed))
    for portion in found:
        order = portion.order
        assert order.size == len(portion.attempts) <= most
        for each in portion.attempts:
            asked = each.resources
            assert order.cores >= max(1, asked.cores)
            assert order.cores < asked.cores + 1 or order.cores == 1
            assert order.memory == (asked.memory + choices.overhead if asked.memory and pass_memory else 0)
            assert order.walltime == (asked.walltime + MARGIN if asked.walltime else 0)
            assert (order.queue, order.preemptible, order.accelerators, order.priority) == (
                asked.queue,
                asked.preemptible,
                asked.accelerators,
                each.priority,
            )


@given(attempts)
def test_portions_keep_the_order_among_those_that_are_alike(given: list[Attempt]) -> None:
    for portion in portions(given, Choices(), 100, 30.0):
        jobs = [each.job for each in portion.attempts]
        assert jobs == sorted(jobs)


def test_without_arrays_each_is_a_portion_and_bears_its_name() -> None:
    given = [attempt(job, Resources(), name=f"name {job}") for job in range(1, 4)]
    assert [each.order.label for each in portions(given, Choices(), 1, 30.0)] == ["name 1", "name 2", "name 3"]
    assert [each.order.label for each in portions(given, Choices(), 9, 30.0)] == ["kind (3 jobs)"]


def test_names_of_submissions_differ_between_stores_and_runs() -> None:
    names = {order_name(store, run, "1-1") for store in ("/a", "/b") for run in ("r", "s")}
    assert len(names) == 4
    assert all(name.endswith("-1-1") and len(name) < 30 for name in names)


# Paces ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_back_off_grows_up_to_a_minute_and_begins_again(chances: list[float]) -> None:
    backoff = Backoff(iter([*chances, 0.5]).__next__)
    waits = [backoff.more() for _ in range(12)]
    assert 0.75 <= waits[0] <= 1.25
    assert all(wait <= 60 for wait in waits)
    assert waits[-1] >= 45
    backoff.reset()
    assert backoff.more() == 1.0


def test_a_rhythm_grows_while_nothing_changes_and_shrinks_when_it_does() -> None:
    rhythm = Rhythm(4, 60)
    waits = [rhythm.look(changed=False) for _ in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] == 60
    assert [rhythm.look(changed=True) for _ in range(3)] == [15, 4, 4]


def test_a_fixed_rhythm_is_that() -> None:
    rhythm = Rhythm(4, 60, fixed=7)
    assert {rhythm.look(changed=changed) for changed in (True, False, False)} == {7}


def test_a_turnstile_lets_some_through_and_then_one_at_a_time() -> None:
    turnstile, now = Turnstile(3, 10.0), 100.0
    for _ in range(3):
        assert turnstile.wait(now) == 0
        turnstile.through(now)
    assert turnstile.wait(now) == pytest.approx(10)
    assert turnstile.wait(now + 4) == pytest.approx(6)
    now += 10
    assert turnstile.wait(now) == 0
    turnstile.through(now)
    assert turnstile.wait(now) == pytest.approx(10)
    assert turnstile.wait(now + 1000) == 0


# Endings --------------------------------------------------------------------------------------------------------

CLAIM = Claim("worker", "node7", 12, "123_4")


@pytest.mark.parametrize(
    ("end", "begun", "not_begun"),
    [
        (End(Reason.FINISHED, 0), Reason.PARTITION, Reason.ERROR),
        (End(Reason.FAILED, 1), Reason.FAILED, Reason.ERROR),
        (End(Reason.FAILED, None, 9), Reason.FAILED, Reason.ERROR),
        (End(Reason.FAILED, 70), Reason.ERROR, Reason.ERROR),
        (End(Reason.ERROR), Reason.ERROR, Reason.ERROR),
        (End(Reason.KILLED), Reason.FAILED, Reason.FAILED),
        (End(Reason.MEMLIMIT), Reason.MEMLIMIT, Reason.MEMLIMIT),
        (End(Reason.LOST), Reason.LOST, Reason.LOST),
        (End(Reason.PREEMPTED), Reason.PREEMPTED, Reason.PREEMPTED),
        (End(Reason.MAXJOBDURATION), Reason.MAXJOBDURATION, Reason.MAXJOBDURATION),
    ],
)
def test_ends_without_an_outcome(end: End, begun: Reason, not_begun: Reason) -> None:
    assert endings.without_outcome("k", end, CLAIM, "", asked=False).reason == begun
    assert endings.without_outcome("k", end, None, "", asked=False).reason == not_begun
    assert endings.without_outcome("k", end, CLAIM, "", asked=True).reason == Reason.KILLED
    assert endings.without_outcome("k", end, None, "", asked=True).reason == Reason.KILLED


def test_what_a_worker_said_is_told_where_it_could_not_begin() -> None:
    said = "module: not found\n\n  /bin/sh:  exec: python: not found \n"
    end = End(Reason.FAILED, 127, message="exit code 127")
    message = endings.without_outcome("k", end, None, said, asked=False).message
    assert "exit code 127" in message
    assert message.endswith("module: not found / /bin/sh: exec: python: not found")
    assert "not found" not in endings.without_outcome("k", end, CLAIM, said, asked=False).message


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (None, Reason.LOST),
        (End(Reason.KILLED), Reason.FAILED),
        (End(Reason.FINISHED, 0), Reason.FAILED),
        (End(Reason.PREEMPTED), Reason.PREEMPTED),
        (End(Reason.MEMLIMIT), Reason.MEMLIMIT),
        (End(Reason.MAXJOBDURATION), Reason.MAXJOBDURATION),
        (End(Reason.LOST), Reason.LOST),
    ],
)
def test_why_a_worker_was_told_to_end(end: End | None, reason: Reason) -> None:
    left = Outcome(key="k", reason=Reason.KILLED, signal=15, message="sent SIGTERM", host="node7", ended="then")
    found = endings.explained(left, end)
    assert (found.reason, found.signal, found.host, found.ended) == (reason, 15, "node7", "then")


@pytest.mark.parametrize("end", [None, End(Reason.FINISHED, 0)])
def test_who_heeds_a_warning_has_run_out_of_time(end: End | None) -> None:
    left = Outcome(key="k", reason=Reason.KILLED, signal=signal.SIGXCPU, message="its batch system sent SIGXCPU")
    assert endings.explained(left, end).reason == Reason.MAXJOBDURATION
    assert endings.explained(left, End(Reason.PREEMPTED)).reason == Reason.PREEMPTED


def test_what_is_forgotten_says_where_it_was() -> None:
    assert "node7 as 123_4" in endings.forgotten("k", CLAIM, asked=False).message
    assert "never started" in endings.forgotten("k", None, asked=False).message
    assert endings.forgotten("k", None, asked=True).reason == Reason.KILLED


# Settings and names ---------------------------------------------------------------------------------------------


def test_choices_are_read_from_text() -> None:
    options = {"batch-memory": "omit", "batch-overhead": "1 GiB", "batch-poll-interval": "1min", "batch-strict": "true"}
    found = Choices.of(options)
    assert (found.pass_memory, found.overhead, found.poll_interval, found.strict) == (False, 1024 * MB, 60.0, True)
    assert Choices.of({}) == Choices()
    with pytest.raises(UserError, match="batch-call-timeout: "):
        Choices.of({"batch-call-timeout": "soon"})


@given(st.text(alphabet="0123456789-.abdenostartdi", max_size=30))
def test_any_name_of_a_file_is_news_or_not(name: str) -> None:
    found = parse(name)
    assert found is None or found.name == name


def test_names_of_news() -> None:
    assert parse("2-13.7.done") == Item("2-13.7.done", Ticket("2-13", 7), "done")
    assert parse("2-13.7.12.notes") == Item("2-13.7.12.notes", Ticket("2-13", 7), "notes", 12)
    assert parse("2-13.7.x.notes") is None
    assert parse("2-13.done") is None


def test_portions_do_not_change_what_is_handed_over() -> None:
    given = attempt(1, Resources(cores=0.5))
    (found,) = portions([given], Choices(), 5, 30.0)
    assert msgspec.structs.asdict(found.attempts[0]) == msgspec.structs.asdict(given)
