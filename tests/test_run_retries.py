"""Trying again, in whole runs: tries, back-off, what is tried again, escalation, checkpoints, failures that climb."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flows import trying
from support.command import log_directory, running, until
from support.command import orch as command
from support.runs import Ran, run
from support.runs import until as until_event
from support.saboteur import agent_of

import orch
from orch.adapters.contract import Capacity, Finished, RunInfo
from orch.adapters.null import NullAdapter, NullSession, succeed
from orch.attempt import Attempt, Outcome, Reason
from orch.bus import events as ev

FLOW = ["-m", "flows.tried"]


@pytest.fixture(autouse=True)
def _flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the flows as this process does."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def attempts(ran: Ran, job: str = "") -> int:
    """How many there were."""
    return len(ran.all(ev.Submitting, job))


# Tries and back-off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["fork", "pool"])
async def test_retries_are_further_tries(tmp_path: Path, isolation: str) -> None:
    options = {"retries": 2, "isolation": isolation}
    good = await run(tmp_path / "s", trying.one, fails=2, options=options)
    assert (good.value, attempts(good)) == ("fine", 3)
    bad = await run(tmp_path / "s", trying.one, fails=3, options=options)
    assert (attempts(bad), [event.charged for event in bad.all(ev.Retrying)]) == (3, [True, True])
    assert isinstance(bad.error, orch.RunFailed)
    assert [event.message for event in bad.all(ev.Failed)] == ["ValueError: no such value"]


async def test_the_runs_retries_are_for_jobs_that_do_not_say(tmp_path: Path) -> None:
    settings = {"retries": 1}
    assert (await run(tmp_path / "s", trying.one, settings=settings)).value == "fine"
    assert attempts(await run(tmp_path / "s", trying.one, settings=settings, options={"retries": 0})) == 1
    done = command("run", "--quiet", "--retries", "1", *FLOW, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, '"fine"\n')


async def test_the_back_off_begins_with_two_seconds_and_is_not_the_same_for_all(tmp_path: Path) -> None:
    waits = []
    async with orch.Orchestrator(tmp_path / "s", retries=1) as orchestrator:
        handle = await orchestrator.start(trying.several, count=20)
        async for event in handle.events():
            if isinstance(event, ev.Retrying):
                waits.append(event.wait)
            if len(waits) == 20:
                break
        await handle.cancel()
    assert all(1.5 <= wait <= 2.5 for wait in waits)
    assert len({round(wait, 1) for wait in waits}) > 4  # well apart


@pytest.mark.parametrize(("setting", "option"), [("10ms", None), ("1h", "10ms")])
async def test_each_back_off_is_three_times_as_long(tmp_path: Path, setting: str, option: str | None) -> None:
    options = {"retries": 3} | ({"retry_backoff": option} if option else {})
    ran = await run(tmp_path / "s", trying.one, fails=3, options=options, settings={"retry_backoff": setting})
    assert ran.value == "fine"
    waits = [event.wait for event in ran.all(ev.Retrying)]
    assert len(waits) == 3
    for number, wait in enumerate(waits):
        assert 0.75 * 0.01 * 3**number <= wait <= 1.25 * 0.01 * 3**number


def test_the_command_sets_the_back_off_and_says_how_long_it_is(tmp_path: Path) -> None:
    done = command("run", "--retries", "1", "--retry-backoff", "20ms", "--run-id", "r", *FLOW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    retrying = Ran(tmp_path / ".orch", "r").all(ev.Retrying)
    assert [0.015 <= event.wait <= 0.025 for event in retrying] == [True]


async def test_why_names_the_end_of_the_back_off(tmp_path: Path) -> None:
    args = ["run", "--quiet", "--retries", "1", "--retry-backoff", "1h", "--run-id", "r", *FLOW]
    with running(*args, cwd=tmp_path):
        await until(log_directory(tmp_path / ".orch", "r"), lambda event: isinstance(event, ev.Retrying))
        said = command("why", "r", "1", cwd=tmp_path).stdout
        assert command("cancel", "r", cwd=tmp_path).returncode == 0
    assert "ValueError: no such value" in said
    assert "backs off until 20" in said


# What is tried again --------------------------------------------------------------------------------------------------

TRIED: list[tuple[str, dict[str, Any], bool]] = [
    ("flood", {"retry_on": [trying.Flood]}, True),
    ("flood", {"retry_on": trying.Trouble}, True),
    ("flood", {"retry_on": Exception}, True),
    ("flood", {"retry_on": ValueError}, False),
    ("flood", {"no_retry_on": trying.Trouble}, False),
    ("flood", {"no_retry_on": [trying.Flood], "retry_on": trying.Trouble}, False),
    ("unicode", {"retry_on": ValueError}, True),  # whose name is that of a base
    ("value", {"retry_on": trying.Trouble}, False),
    ("value", {"retry_on": "such (value|key)"}, True),
    ("value", {"retry_on": re.compile("SUCH VALUE", re.IGNORECASE)}, True),
    ("value", {"retry_on": "SUCH VALUE"}, False),
    ("value", {"no_retry_on": "no such"}, False),
    ("value", {"retry_on": "FAILED"}, True),
    ("value", {"retry_on": "MEMLIMIT"}, False),
    ("value", {"no_retry_on": ["FAILED", 7]}, False),
    ("exit", {"retry_on": [3]}, True),
    ("exit", {"retry_on": [4]}, False),
    ("kill", {"retry_on": "FAILED"}, True),
    ("kill", {"no_retry_on": Exception}, True),  # nothing was raised
]


async def test_what_is_tried_again_and_what_not(tmp_path: Path) -> None:
    """Exit codes, reasons, exception types with their bases, message patterns."""
    cases = [(how, {**options, "retries": 1}) for how, options, _ in TRIED]
    ran = await run(tmp_path / "s", trying.failing, cases=cases)
    wrong = [TRIED[n] for n in range(len(TRIED)) if attempts(ran, f"case {n}") != 1 + TRIED[n][2]]
    assert not wrong
    assert set(ran.states().values()) == {"done", "failed"}


PROGRAMS: list[tuple[str, dict[str, Any], int]] = [
    ("exit 3", {"retry_on": 3}, 2),
    ("exit 3", {"retry_on": [1, 2]}, 1),
    ("exit 3", {"no_retry_on": 3}, 1),
    ("kill -9 $$", {"retry_on": "FAILED"}, 2),
    ("echo disk is full >&2; exit 1", {"retry_on": "disk is full"}, 1),  # the message is not what was printed
    ("exit 3", {"retry_on": "exit code 3"}, 2),
]


async def test_programs_are_tried_again_by_their_exit_code(tmp_path: Path) -> None:
    cases = [(script, {**options, "retries": 1}) for script, options, _ in PROGRAMS]
    ran = await run(tmp_path / "s", trying.programs, cases=cases)
    found = [attempts(ran, f"case {number}") for number in range(len(PROGRAMS))]
    assert found == [tries for _, _, tries in PROGRAMS], ran.all(ev.Failed)


# More of what was not enough ------------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"retries": 3}, [64 * MIB, 128 * MIB, 256 * MIB]),
        ({"retries": 2, "memory_escalation": (8, "300 MiB")}, [64 * MIB, 300 * MIB]),
        ({"retries": 1, "memory_escalation": False}, [64 * MIB, 64 * MIB]),
        ({"retries": 1, "memory_escalation": (4, "100 MiB")}, [64 * MIB, 100 * MIB]),
    ],
)
async def test_memory_is_raised_after_memlimit(tmp_path: Path, options: dict[str, Any], asked: list[int]) -> None:
    ran = await run(tmp_path / "s", trying.greedy, options=options)
    retrying = ran.all(ev.Retrying)
    assert {event.reason for event in retrying} == {"MEMLIMIT"}
    assert all(event.charged for event in retrying)
    given = [64 * MIB, *(event.resources.memory if event.resources else 64 * MIB for event in retrying)]
    assert given == asked
    enough = asked[-1] >= 256 * MIB
    assert ran.value == (asked[-1] if enough else None)
    assert [event.reason for event in ran.all(ev.Failed)] == ([] if enough else ["MEMLIMIT"])


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"retries": 1, "walltime_escalation": (1.5, "12h")}, 0.45),
        ({"retries": 1, "walltime_escalation": (1000, "31s")}, 31),
        ({"retries": 1, "walltime_escalation": True}, 0.6),
        ({"retries": 1}, 0.3),
    ],
)
async def test_wall_time_is_raised_where_that_is_said(tmp_path: Path, options: dict[str, Any], asked: float) -> None:
    ran = await run(tmp_path / "s", trying.late, options=options)
    assert [(event.reason, event.charged) for event in ran.all(ev.Retrying)] == [("MAXJOBDURATION", True)]
    assert ran.value == pytest.approx(asked)


# What costs nothing ---------------------------------------------------------------------------------------------------


async def test_what_is_lost_is_charged_once_that_has_happened_too_often(tmp_path: Path) -> None:
    settings = {"chaos": 1, "chaos_seconds": "10ms", "max_lost": 3}
    ran = await run(tmp_path / "s", trying.forever, settings=settings)
    retrying = ran.all(ev.Retrying)
    assert [event.charged for event in retrying] == [False, False, False, True]
    assert {event.reason for event in retrying} == {event.reason for event in ran.all(ev.Failed)} == {"LOST"}
    assert {event.message for event in retrying} == {"killed on purpose: --chaos"}


async def test_it_can_be_lost_without_end(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"chaos": 1, "chaos_seconds": "1ms", "max_lost": "unlimited", "retry_backoff": 0}
    lost = []
    async with orch.Orchestrator(tmp_path / "s", **settings) as orchestrator:
        handle = await orchestrator.start(trying.forever)
        async for event in handle.events():
            if isinstance(event, ev.Retrying):
                lost.append(event.charged)
            if len(lost) == 120:
                break
        await handle.cancel()
    assert not any(lost)


def test_how_often_is_an_option_of_the_command(tmp_path: Path) -> None:
    own = ["--quiet", "--max-lost", "2", "--chaos", "1:0.01", "--run-id", "r"]
    done = command("run", *own, *FLOW, "--what", "forever", cwd=tmp_path)
    assert done.returncode == 1
    assert "killed on purpose: --chaos" in done.stderr
    assert [event.charged for event in Ran(tmp_path / ".orch", "r").all(ev.Retrying)] == [False, False, True]


class Queue(NullSession):
    """Tells the ends of attempts only: none has begun."""

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        self._tell([Finished(attempt.key, self._outcome(attempt)) for attempt in attempts])


class Refusing(NullAdapter):
    """A batch system that takes no attempt, or not the first ones: they end before they have begun."""

    def __init__(self, times: int) -> None:
        super().__init__(self._answer, Capacity(cores=4, memory=1 << 40, disk=1 << 40))
        self.left = times

    async def open(self, info: RunInfo) -> NullSession:
        return Queue(self._outcome, self._capacity)

    def _answer(self, attempt: Attempt) -> Outcome:
        self.left -= 1
        if self.left < 0:
            return succeed(attempt)
        return Outcome(key=attempt.key, reason=Reason.ERROR, message="the queue is closed")


@pytest.mark.parametrize(("times", "retries", "charged"), [(5, 0, [False] * 5), (6, 1, [False] * 5 + [True])])
async def test_a_failed_submission_is_tried_again_without_charge_so_often(
    tmp_path: Path, times: int, retries: int, charged: list[bool]
) -> None:
    ran = await run(tmp_path / "s", trying.one, adapter=Refusing(times), options={"retries": retries})
    assert [event.charged for event in ran.all(ev.Retrying)] == charged
    assert ran.error is None
    bad = await run(tmp_path / "s", trying.one, adapter=Refusing(times + 1), options={"retries": retries})
    assert isinstance(bad.error, orch.RunFailed)
    assert "the queue is closed" in str(bad.error)


# Failures climb -------------------------------------------------------------------------------------------------------


async def test_what_depends_on_a_failed_job_is_not_run_and_everything_else_goes_on(tmp_path: Path) -> None:
    ran = await run(tmp_path / "s", trying.climbing)
    assert ran.states() == {
        "bad": "failed",
        "user": "skipped",
        "further": "skipped",
        "parent": "succeeded",
        "child": "failed",
        "grandchild": "skipped",
        "follow-on": "skipped",
        "sibling": "done",
        "other": "done",
        "after other": "done",
    }
    assert ran.all(ev.Running, "user") == ran.all(ev.Running, "follow-on") == []
    why = command("why", ran.run, "further", "--store", ran.store, cwd=tmp_path).stdout
    assert "needs bad [1], which failed" in why
    assert isinstance(ran.error, orch.RunFailed)
    assert {failure.job.name for failure in ran.error.failures} == {"bad", "child"}


async def test_the_first_failure_stops_everything_if_wanted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ran = await run(tmp_path / "s", trying.first_failure, pipe=str(pipe), settings={"first_failure": True})
    states = ran.states()
    assert (states["bad"], states["hangs"], states["after"]) == ("failed", "cancelled", "cancelled")
    assert [event.why for event in ran.all(ev.Abandoned)] == ["first failure"]
    assert ran.all(ev.Ended)[0].outcome == "failed"
    assert isinstance(ran.error, orch.RunFailed)


def test_the_command_stops_on_the_first_failure(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    own = ["--what", "first_failure", "--pipe", str(tmp_path / "pipe")]
    done = command("run", "--stop-on-first-failure", *FLOW, *own, cwd=tmp_path)
    assert done.returncode == 1
    assert "was to stop on the first failure" in done.stderr


# Checkpoints ----------------------------------------------------------------------------------------------------------


def lives(where: Path) -> list[str]:
    return (where / "lives").read_text().split()


async def test_a_checkpoint_whose_subtree_fails_twice(tmp_path: Path) -> None:
    ran = await run(tmp_path / "s", trying.checkpointed, where=str(tmp_path))
    assert ran.value == "value of life 1"  # once known, a value does not change
    assert lives(tmp_path) == ["1", "2", "3"]
    assert len(ran.all(ev.Rewound)) == 2
    assert ran.states() == {
        "point": "done",
        "user": "done",
        **{f"{name} {life}": "dropped" for life in (1, 2) for name in ("made", "live", "bad", "tell", "after all")},
        "made 3": "done",
        "good 3": "done",
        "after all 3": "done",
    }
    assert [event.attempt for event in ran.all(ev.Running, "live 1")] == [1]
    assert len(ran.all(ev.Cancelled)) == 2  # what ran there was ended
    assert len(ran.all(ev.Submitting, "user")) == 1
    why = command("why", ran.run, "point", "--store", ran.store, cwd=tmp_path).stdout
    assert "bad 2" in why


async def test_a_checkpoint_runs_out_of_tries(tmp_path: Path) -> None:
    ran = await run(tmp_path / "s", trying.checkpointed, where=str(tmp_path), bad_until=9, retries=1, live=False)
    assert lives(tmp_path) == ["1", "2"]
    states = ran.states()
    assert (states["point"], states["bad 1"], states["bad 2"]) == ("succeeded", "dropped", "failed")
    assert states["user"] == "done"
    assert isinstance(ran.error, orch.RunFailed)
    assert [failure.job.name for failure in ran.error.failures] == ["bad 2"]


async def test_the_inner_of_two_checkpoints_uses_up_its_tries_first(tmp_path: Path) -> None:
    ran = await run(tmp_path / "s", trying.nested, where=str(tmp_path))
    assert ran.value == "value of life 1"
    assert lives(tmp_path) == ["1", "1", "2", "2", "1"]  # outer, inner, inner, outer, inner
    rewound = [ran.names[event.job] for event in ran.all(ev.Rewound)]
    assert rewound == ["inner of 1", "outer"]
    assert ran.states()["inner of 1"] == "dropped"
    assert ran.states()["inner of 2"] == "done"


async def test_a_checkpoint_survives_its_leader(tmp_path: Path) -> None:
    """Killed while something runs below it that is to be ended."""
    args = ["--run-id", "r", "--quiet", *FLOW, "--what", "checkpointed", "--where", str(tmp_path)]
    with running("run", *args, cwd=tmp_path) as process:
        await until(log_directory(tmp_path / ".orch", "r"), lambda event: isinstance(event, ev.Rewound))
        process.kill()
        process.wait()
    done = command("replay", "r", "--restart", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, '"value of life 1"\n'), done.stderr
    assert lives(tmp_path) == ["1", "2", "3"]


# Deferred functions ---------------------------------------------------------------------------------------------------


def cleaned(where: Path) -> list[str]:
    return (where / "cleaned").read_text().splitlines()


def whole(attempt: int) -> list[str]:
    return [f"{what} {attempt}" for what in ("body", "one", "two", "three")]


@pytest.mark.parametrize("adapter", ["local", "inprocess"])
@pytest.mark.parametrize("how", ["", "value"])
async def test_deferred_functions_run_in_order_although_one_fails(tmp_path: Path, how: str, adapter: str) -> None:
    ran = await run(tmp_path / "s", trying.deferring, where=str(tmp_path), how=how, adapter=adapter)
    assert ran.value == "done"
    assert cleaned(tmp_path) == [line for attempt in ((1, 2) if how else (1,)) for line in whole(attempt)]
    printed = command("logs", ran.run, "1", "--store", ran.store, cwd=tmp_path)
    assert f"RuntimeError: two {2 if how else 1} cannot be cleaned" in printed.stdout + printed.stderr


async def test_deferred_functions_run_after_sigkill(tmp_path: Path) -> None:
    ran = await run(tmp_path / "s", trying.deferring, where=str(tmp_path), how="kill")
    assert (ran.value, cleaned(tmp_path)) == ("done", [*whole(1), *whole(2)])


async def test_deferred_functions_run_on_a_host_whose_agent_was_killed(tmp_path: Path) -> None:
    pipe, store = tmp_path / "pipe", tmp_path / "s"
    os.mkfifo(pipe)
    async with orch.Orchestrator(store, retry_backoff=0) as orchestrator:
        handle = await orchestrator.start(trying.deferring, where=str(tmp_path), pipe=str(pipe))
        await until_event(handle, lambda event: isinstance(event, ev.Running))
        with pipe.open("rb") as said:
            said.read(1)
        os.kill(agent_of(str(store)), signal.SIGKILL)
        assert await handle.result() == "done"
        assert [row.attempt for row in handle.state.jobs.values()] == [2]
        assert [row.charged for row in handle.state.jobs.values()] == [0]
    said_by = cleaned(tmp_path)
    assert [line for line in said_by if line.endswith("1")] == whole(1)
    assert [line for line in said_by if line.endswith("2")] == whole(2)


def test_a_body_does_not_count_the_surveys_before_it(tmp_path: Path) -> None:
    assert orch.run(trying.counted, store=tmp_path / "s") == [2, 2]
