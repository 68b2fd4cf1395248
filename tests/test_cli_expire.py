"""`orch clean --older-than`: which runs go, and which never do."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.handmade import created, write_run

from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.reader import read
from orch.cli.expire import find_old
from orch.cli.main import main
from orch.store.file import FileStore

DAY = 86400.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs in all states that they can be left in."""
    root = tmp_path / "s"
    monkeypatch.setenv("ORCH_STORE", str(root))
    for outcome in ("succeeded", "failed", "cancelled"):
        write_run(root, outcome, [created(outcome), ev.Planned(count=0), ev.Ended(outcome=outcome)], close="ended")
    write_run(root, "stopped", [created("stopped"), ev.Planned(count=0)], close="stopped")
    write_run(root, "interrupted", [created("interrupted"), ev.Planned(count=0)])
    for run in (root / "runs").iterdir():
        (run / "files").mkdir()
        (run / "files" / "x").write_bytes(b"x" * 1_000_000)
    return root


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "runs").iterdir())


def test_all_that_are_old_go(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--older-than", "0s", "--yes"]) == 0
    said = capsys.readouterr().err
    assert [line.split()[:2] for line in said.splitlines()[1:6]] == [[run, run] for run in reversed(ORDER)]
    assert "deleted 5 runs, 4.7" in said
    assert names(root) == []


ORDER = ["succeeded", "failed", "cancelled", "stopped", "interrupted"]


def test_only_those_in_some_states(root: Path) -> None:
    arguments = ["clean", "--older-than", "0s", "--state", "failed", "--state", "stopped", "--yes"]
    assert main(arguments) == 0
    assert names(root) == ["cancelled", "interrupted", "succeeded"]


def test_age_is_counted_from_the_last_event(root: Path) -> None:
    store = FileStore(root)
    last = list(read(root / "runs" / "failed" / "log"))[-1].time
    tomorrow = f"{int(last[:4]) + 1}{last[4:]}"
    assert [each.run for each in find_old(store, 366 * DAY, ["failed"], now=tomorrow)] in ([], ["failed"])
    assert [each.run for each in find_old(store, 365 * DAY, ["failed"], now=tomorrow)] == ["failed"]
    assert find_old(store, 367 * DAY, ["failed"], now=tomorrow) == []
    assert find_old(store, 1.0, [], now=last) == []


def test_nothing_is_old(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--older-than", "30d", "--state", "failed"]) == 0
    assert f"the store {root} has no failed runs older than 30d: nothing to do" in capsys.readouterr().err
    assert len(names(root)) == 5


def test_what_is_led_or_a_link_or_damaged_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "runs" / "succeeded").rename(root / "elsewhere")
    (root / "runs" / "succeeded").symlink_to(root / "elsewhere")
    segment = next((root / "runs" / "failed" / "log").iterdir())
    segment.write_bytes(segment.read_bytes().replace(b"created", b"creaked"))
    lock = RunLock(root / "runs" / "interrupted" / "lock")
    lock.acquire()
    try:
        assert main(["clean", "--older-than", "0s", "--yes"]) == 0
    finally:
        lock.release()
    assert names(root) == ["failed", "interrupted", "succeeded"]
    assert "run failed is left alone: " in capsys.readouterr().err


def test_it_asks_first(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["clean", "--older-than", "0s"]) == 2
    assert f"orch clean deletes 5 runs of {root}, 4.7" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n", raising=False)
    assert main(["clean", "--older-than", "0s"]) == 0
    assert len(names(root)) == 5
    monkeypatch.setattr("sys.stdin.readline", lambda: "y\n", raising=False)
    assert main(["clean", "--older-than", "0s"]) == 0
    assert names(root) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than", "long"], "'long' is not a duration"),
        (["--older-than", "1d", "r"], "takes no run"),
        (["--older-than", "1d", "--garbage"], "no --garbage"),
        (["--state", "failed"], "--state means something with --older-than only"),
        (["--older-than", "1d", "--state", "running"], "invalid choice: 'running'"),
    ],
)
@pytest.mark.usefixtures("root")
def test_what_makes_no_sense(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", *arguments]) == 2
    assert message in capsys.readouterr().err
