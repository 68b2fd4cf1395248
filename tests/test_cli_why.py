"""`orch why`: what a job waits for, how its attempts went, and what became of it otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.folded import begun
from support.handmade import created, started, text, write_run

from orch.agent.protocol import Answer
from orch.blockers import LONGEST, Blockers
from orch.bus import events as ev
from orch.cli.attempts import MOST, attempt_lines, told
from orch.cli.main import main
from orch.worker.spool import Spool


def why(root: Path, events: list[ev.Event], job: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the command says of a job of a run with these events."""
    write_run(root, "r", [created("r"), *events])
    assert main(["why", job, "--store", str(root)]) == 0
    return capsys.readouterr().out.splitlines()


def arrows(lines: list[str]) -> list[str]:
    return [line.strip().removeprefix("→ ").partition(":")[0] for line in lines if "→" in line]


def family() -> list[ev.Event]:
    """1 has a child, a follow-on and a service."""
    return [
        ev.Added(job=1, kind="top"),
        ev.Added(job=2, kind="child", parents=[1]),
        ev.Added(job=3, kind="last", follows=[1]),
        ev.Added(job=4, kind="server", form="service", serves=1),
        ev.Planned(count=4),
    ]


def test_what_a_child_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, family(), "child", capsys)
    assert lines[0] == "job child [2] of run r is waiting"
    assert arrows(lines) == ["top [1] is ready (its body is needed)"]


def test_what_a_child_waits_for_once_its_parent_has_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, [*family(), *started(1), ev.Succeeded(job=1, attempt=1)], "child", capsys)
    assert arrows(lines) == ["server [4] is ready (its value is needed)"]


def test_what_a_follow_on_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, [*family(), *started(1), ev.Succeeded(job=1, attempt=1)], "last", capsys)
    assert arrows(lines) == [
        "top [1] is succeeded (all below it is needed)",
        "child [2] is waiting (its end is needed)",
        "server [4] is ready (its value is needed)",
    ]


def test_what_a_job_waits_for_whose_body_has_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, [*family(), *started(1), ev.Succeeded(job=1, attempt=1)], "top", capsys)
    assert arrows(lines)[0] == "child [2] is waiting (its end is needed)"


def test_a_value_that_has_another_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[ev.Event] = [
        ev.Added(job=1, kind="maker"),
        ev.Added(job=2, kind="user", needs=[1]),
        ev.Planned(count=2),
        *started(1),
        ev.Added(job=3, kind="made", by=1, attempt=1),
        ev.Succeeded(job=1, attempt=1, added=1, refs=[3]),
        *started(3),
    ]
    found = arrows(why(tmp_path, events, "user", capsys))
    assert found == ["maker [1] is succeeded (its value is needed)", "made [3] is running (its value is needed)"]


def test_what_cannot_come_is_named_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[ev.Event] = [
        ev.Added(job=1, kind="parent"),
        ev.Added(job=2, kind="good", parents=[1]),
        ev.Added(job=3, kind="bad", parents=[1]),
        ev.Planned(count=3),
        *started(1),
        ev.Succeeded(job=1, attempt=1),
        *started(2),
        *started(3),
        ev.Failed(job=3, attempt=1, reason="FAILED", message="no"),
    ]
    assert arrows(why(tmp_path, events, "parent", capsys)) == ["bad [3] is failed (its end is needed)"]


def tries() -> list[ev.Event]:
    """Lost for nothing, then out of memory with a back-off: the third attempt is not there yet."""
    more = ev.Resources(memory=2 << 30)
    return [
        ev.Added(job=1, kind="work", retries=2, resources=ev.Resources(memory=1 << 30)),
        ev.Planned(count=1),
        *started(1),
        ev.Retrying(job=1, attempt=1, reason="LOST", message="the agent died"),
        *started(1, 2),
        ev.Retrying(job=1, attempt=2, reason="MEMLIMIT", charged=True, wait=6.0, resources=more, message="too much"),
    ]


def test_how_the_attempts_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, tries(), "1", capsys)
    first, second = (line for line in lines if "attempt " in line and " on here: " in line)
    assert first.endswith("attempt 1 on here: LOST: the agent died; it cost no try")
    assert second.endswith(
        "attempt 2 on here: MEMLIMIT: too much; it cost a try, tried again after 6.0 s, asks for 1 cores, 2 GiB of "
        "memory from then on"
    )
    assert "  wants    1 cores, 2 GiB of memory" in lines
    assert "  attempt  2, 1 of 3 tries used up" in lines


def test_one_good_attempt_needs_no_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one: list[ev.Event] = [ev.Added(job=1, kind="work"), ev.Planned(count=1), *started(1)]
    lines = why(tmp_path, [*one, ev.Succeeded(job=1, attempt=1)], "1", capsys)
    assert not any("attempt 1 on" in line for line in lines)


def checkpoint() -> list[ev.Event]:
    """A checkpoint whose child has failed, so that it runs again."""
    return [
        ev.Added(job=1, kind="safe", checkpoint=True, retries=1),
        ev.Planned(count=1),
        *started(1),
        ev.Added(job=2, kind="below", by=1, attempt=1),
        ev.Succeeded(job=1, attempt=1, added=1),
        *started(2),
        ev.Failed(job=2, attempt=1, reason="FAILED", message="no"),
        ev.Rewound(job=1, failed=2),
    ]


def test_what_dropped_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, checkpoint(), "below", capsys)
    assert lines[0] == "job below [2] of run r is dropped"
    (dropped,) = [line for line in lines if line.startswith("  dropped  the")]
    assert dropped.startswith("  dropped  the checkpoint safe [1] ran again at ")
    assert dropped.endswith(", since below [2] failed")
    assert any(line.strip().startswith("see: orch why r 1") for line in lines)


def test_why_a_checkpoint_ran_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, checkpoint(), "safe", capsys)
    assert any(line.endswith("runs again as a checkpoint, since below [2] failed") for line in lines)


def test_a_value_of_an_earlier_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = ev.Kept(value=ev.Blob(data=b"N.", size=2))
    events: list[ev.Event] = [
        ev.Added(job=1, kind="work", cache=True),
        ev.Planned(count=1),
        ev.Submitting(job=1, attempt=1, key="r.1.1", survey=True),
        ev.Running(job=1, attempt=1, host="here"),
        ev.Surveyed(job=1, attempt=1, resources=ev.Resources(), call=ev.Call("sha256:1")),
        ev.Reused(job=1, run="older", source=7, values=[value]),
    ]
    lines = why(tmp_path, events, "1", capsys)
    assert "  why      its value is that of an equal earlier call: run older, job 7" in lines
    assert main(["logs", "1", "--store", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "job work [1] has not run: it has taken the value of job 7 of run older" in said
    assert f"orch logs older 7 --store {tmp_path}" in said
    assert main(["status", "--store", str(tmp_path)]) == 0
    assert "value of job 7 of run older" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_jobs": 1}, "  place    1 attempt is live, and --max-jobs is 1"),
        ({"max_local_jobs": 1}, "  place    1 of its sort are live, and --max-local-jobs is 1"),
        ({"max_local_jobs": 2}, ""),
    ],
)
def test_a_limit_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, int], words: str
) -> None:
    jobs: list[ev.Event] = [ev.Added(job=1, kind="one", local=True), ev.Added(job=2, kind="two", local=True)]
    begin = ev.Created(run="r", settings=settings)
    write_run(tmp_path, "r", [begin, *jobs, ev.Planned(count=2), *started(1)])
    assert main(["why", "2", "--store", str(tmp_path)]) == 0
    places = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  place")]
    assert places == ([words] if words else [])


def test_what_the_agent_says_that_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(store: str, key: str) -> Answer:
        asked.append((store, key))
        return Answer(1, text="waits for cores: 1 wanted, 0 of 1 free", known=True)

    monkeypatch.setattr("orch.agent.observe.ask", ask)
    job = [ev.Added(job=1, kind="work"), ev.Planned(count=1), *started(1)[:2]]
    assert "  place    waits for cores: 1 wanted, 0 of 1 free" in why(tmp_path, job, "1", capsys)
    assert asked == [(str(tmp_path), "r.1.1")]


def test_of_very_many_attempts_the_last_are_shown() -> None:
    events = [ev.Retrying(job=1, attempt=n, reason="LOST", time=f"2030-01-01T00:{n:02d}:00Z") for n in range(1, 51)]
    lines = list(attempt_lines(told(events, 1), {}))
    assert len(lines) == MOST + 1
    assert lines[0] == f"  … {50 - MOST} earlier attempts"
    assert "attempt 50: LOST" in lines[-1]


def test_a_chain_is_told_only_so_far() -> None:
    told_so_far = begun()
    for job in range(1, 2001):
        told_so_far.then(ev.Added(job=job, kind="link", parents=[job - 1]))
    state = told_so_far.then(ev.Planned(count=2000)).state
    found = list(Blockers(state).chain(state.jobs[2000]))
    assert [blocker.row.id for blocker in found] == list(range(1999, 1999 - LONGEST, -1))


def test_what_dropped_a_job_is_not_what_came_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again: list[ev.Event] = [
        ev.Added(job=1, kind="safe", checkpoint=True, retries=2),
        ev.Planned(count=1),
    ]
    for attempt in (1, 2):
        below = attempt + 1
        again += [
            *started(1, attempt),
            ev.Added(job=below, kind=f"below{attempt}", by=1, attempt=attempt),
            ev.Succeeded(job=1, attempt=attempt, added=1),
            *started(below),
            ev.Failed(job=below, attempt=1, reason="FAILED", message="no"),
            ev.Rewound(job=1, failed=below),
        ]
    write_run(tmp_path, "r", [created("r"), *again])
    for job, name in (("2", "below1 [2]"), ("3", "below2 [3]")):
        assert main(["why", job, "--store", str(tmp_path)]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  dropped  the")]
        assert line.endswith(f", since {name} failed")


def second_attempt() -> list[ev.Event]:
    """The first attempt failed by a signal, the second one runs."""
    usage = ev.Usage(wall=5.0, memory=1 << 20)
    ended = ev.Retrying(job=1, attempt=1, reason="FAILED", charged=True, signal=9, message="first", usage=usage)
    return [ev.Added(job=1, kind="work", retries=1), ev.Planned(count=1), *started(1), ended, *started(1, 2)]


def test_a_live_attempt_has_no_end_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(tmp_path, second_attempt(), "1", capsys)
    assert "  attempt  2, 1 of 2 tries used up" in lines
    assert [line for line in lines if line.startswith(("  reason", "  exit", "  used"))] == []
    assert [line for line in lines if line.endswith("attempt 1 on here: FAILED: first; it cost a try")]
    assert main(["status", "--store", str(tmp_path)]) == 0
    assert "signal 9" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("retry", "words"),
    [
        (ev.Retry(never=("exit:3", "exit:4")), ["no_retry_on has exit:3"]),
        (ev.Retry(never=("error:my.Bad",), on=("exit:3",)), ["no_retry_on has error:my.Bad"]),
        (ev.Retry(on=("exit:4", "error:OSError")), ["retry_on has only exit:4, error:OSError"]),
        (ev.Retry(never=("error:Base",), on=("exit:4",)), ["no_retry_on has error:Base, or retry_on has only exit:4"]),
        (ev.Retry(), []),
    ],
)
def test_which_option_forbids_another_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], retry: ev.Retry, words: list[str]
) -> None:
    failed = ev.Failed(job=1, attempt=1, reason="FAILED", exit_code=3, message="my.Bad: no")
    events = [ev.Added(job=1, kind="work", retries=3, retry=retry), ev.Planned(count=1), *started(1), failed]
    lines = why(tmp_path, events, "1", capsys)
    assert [line for line in lines if line.startswith("  retry")] == [f"  retry    not again: {each}" for each in words]


def test_what_has_not_changed_is_not_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asks = ev.Resources(memory=1 << 30)
    ended = ev.Retrying(job=1, attempt=1, reason="MEMLIMIT", charged=True, resources=asks)
    job = ev.Added(job=1, kind="work", retries=1, resources=asks)
    lines = why(tmp_path, [job, ev.Planned(count=1), *started(1), ended, *started(1, 2)], "1", capsys)
    assert not any("from then on" in line for line in lines)


@pytest.mark.parametrize(("out", "rest"), [("", 0), ("much\n", 1)])
def test_the_rest_is_named_where_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, rest: int
) -> None:
    done = ev.Succeeded(job=1, attempt=1, stdout=text(out), stderr=text("said\n"))
    lines = why(tmp_path, [ev.Added(job=1, kind="work"), ev.Planned(count=1), *started(1), done], "1", capsys)
    assert "    said" in lines
    assert len([line for line in lines if line.startswith("  the rest: orch logs")]) == rest


def test_a_state_stands_off_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[ev.Event] = [*family(), *started(1), ev.Succeeded(job=1, attempt=1)]
    assert any(line.startswith("  succeeded 2") for line in why(tmp_path, events, "top", capsys))


def test_what_the_batch_system_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool(str(tmp_path), "r")
    spool.make()
    spool.write_pending('{"r.1.1": "PENDING (Priority)"}')
    handed = [
        ev.Added(job=1, kind="top"),
        ev.Planned(count=1),
        ev.Submitting(job=1, attempt=1, key="r.1.1", adapter="slurm"),
        ev.Submitted(job=1, attempt=1, id="77"),
    ]
    assert "  place    slurm says: PENDING (Priority)" in why(tmp_path, handed, "top", capsys)
