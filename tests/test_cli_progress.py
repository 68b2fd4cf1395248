"""What is said of a run while it goes on."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from rich.console import Console
from support.handmade import created, mixed, write_run

from orch.bus import events as ev
from orch.cli import progress
from orch.cli.live import Screen
from orch.cli.progress import Progress, counts, share, summary_line
from orch.history import fold_quickly
from orch.state.model import State

LATER = "2099-01-01T00:00:00.000000Z"


def state_of(tmp_path: Path, events: list[ev.Event]) -> State:
    return fold_quickly(write_run(tmp_path, "r", events))


def fake_run(state: State) -> Any:
    return cast("Any", SimpleNamespace(id="r", state=state))


def test_counts(tmp_path: Path) -> None:
    state = state_of(tmp_path, mixed())
    assert counts(state) == "1 of 7 jobs done, 1 running, 3 waiting, 1 failed, 1 skipped"
    assert share(state) == pytest.approx(3 / 7)


def test_lines(tmp_path: Path) -> None:
    state = state_of(tmp_path, mixed())
    lines = Progress(fake_run(state)).lines(now=LATER)
    assert lines[0].startswith("1 of 7 jobs done")
    assert any(line.startswith("  running  slow [4] ") for line in lines)
    assert "  failed   align [2] FAILED: ValueError: bad header" in lines
    assert "  warning  job spare was made and never used" in lines


def test_what_is_short_when_nothing_moves(tmp_path: Path) -> None:
    job = ev.Added(job=1, kind="large", resources=ev.Resources(cores=8, memory=1 << 34))
    state = state_of(tmp_path, [created("r"), job, ev.Planned(count=1)])
    lines = Progress(fake_run(state)).lines(now=LATER)
    assert any("nothing runs: large [1] wants 8 cores, 16 GiB of memory; waits for a place" in line for line in lines)
    state.paused = True
    assert any("the run is paused" in line for line in Progress(fake_run(state)).lines(now=LATER))


def test_what_is_short_is_asked_of_the_batch_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ev.Added(job=1, kind="large", resources=ev.Resources(cores=8))
    submitting = ev.Submitting(job=1, attempt=1, key="r.1.1", adapter="local")
    run = fake_run(state_of(tmp_path, [created("r"), job, ev.Planned(count=1), submitting]))
    monkeypatch.setattr(progress, "system_clock", lambda: LATER)

    async def describe(job: int) -> str:
        return f"job {job} waits for 6 cores"

    run.describe = describe
    shown = Progress(run)
    assert any("; job 1 waits for 6 cores (orch why 1)" in line for line in shown.lines(short=anyio.run(shown._short)))

    async def never(job: int) -> str:
        await anyio.sleep_forever()
        return f"job {job} is never told"

    run.describe = never
    monkeypatch.setattr(progress, "REFRESH", 0)
    assert any("handed to local, not started yet" in line for line in shown.lines(short=anyio.run(shown._short)))


def test_no_job_is_nothing_to_show(tmp_path: Path) -> None:
    state = state_of(tmp_path, [created("r"), ev.Planned(count=0)])
    assert counts(state) == "0 of 0 jobs done"
    assert share(state) == 0
    assert Progress(fake_run(state)).lines(now=LATER)


async def test_plain_lines_only_when_something_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = await anyio.to_thread.run_sync(state_of, tmp_path, mixed())
    naps = 0

    async def nap(seconds: float) -> None:
        nonlocal naps
        assert seconds == progress.PLAIN
        naps += 1
        if naps == 4:
            state.counts[progress.S.DONE] += 1
        if naps == 6:
            raise TimeoutError

    monkeypatch.setattr("orch.cli.progress.anyio.sleep", nap)
    with pytest.raises(TimeoutError):
        await Progress(fake_run(state)).show()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "orch: warning: job spare was made and never used",
        "orch: 1 of 7 jobs done, 1 running, 3 waiting, 1 failed, 1 skipped",
        "orch: 2 of 7 jobs done, 1 running, 3 waiting, 1 failed, 1 skipped",
    ]


async def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = await anyio.to_thread.run_sync(state_of, tmp_path, mixed())
    await Progress(fake_run(state), quiet=True).show()
    assert capsys.readouterr().err == ""


def test_the_live_display_leaves_nothing(tmp_path: Path) -> None:
    state = state_of(tmp_path, mixed())
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, height=20)
    with Screen(console) as screen:
        screen.show(Progress(fake_run(state)).lines(now=LATER), share(state))
    drawn = file.getvalue()
    assert "slow [4]" in drawn
    assert drawn.rstrip().endswith("\x1b[2K")  # the last thing done is to erase


def test_summary(tmp_path: Path) -> None:
    state = state_of(tmp_path, [created("r"), ev.Planned(count=0), ev.Ended(outcome="succeeded")])
    assert summary_line(fake_run(state), 61.0) == "orch: run r succeeded: 0 of 0 jobs done, 1m 1s"


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_the_counts_are_never_cut(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=20, force_terminal=True, color_system=None)
    with Screen(console) as screen:
        screen.show(["1 of 7 jobs done, 1 running, 3 waiting, 1 failed, 1 skipped, 3m 20s", "  running  one"], 0.3)
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "1failed,1skipped,3m20s" in "".join(drawn.split())
    assert ("━" in drawn) is (width == 200)


def test_names_are_drawn_without_control_characters(tmp_path: Path) -> None:
    job = ev.Added(job=1, kind="k", name="\x1b[31mred\x1b[2J")
    state = state_of(tmp_path, [created("r"), job, ev.Planned(count=1)])
    assert not any("\x1b" in line for line in Progress(fake_run(state)).lines(now=LATER))


def test_the_summary_of_a_run_that_is_over_has_nothing_under_way(tmp_path: Path) -> None:
    state = state_of(tmp_path, mixed())
    state.stopping = True
    assert counts(state).endswith("stopping")
    assert "stopping" not in summary_line(fake_run(state), 1.0)
