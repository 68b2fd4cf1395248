"""`orch clean`, and wishes for runs that nobody leads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.handmade import created, mixed, started, write_run

from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.reader import read
from orch.cli.garbage import YOUNG, collect
from orch.cli.main import main
from orch.errors import NoSuchRun
from orch.leader.requests import make_request
from orch.store.file import TEMPORARY, FileStore


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "s"))
    ended = [created("r"), ev.Planned(count=0), ev.Ended(outcome="succeeded")]
    write_run(tmp_path / "s", "r", ended, close="ended")
    return tmp_path / "s"


def test_a_run_is_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_request(root, "r", "stop", 1, "me")
    other = make_request(root, "r.x", "stop", 1, "me")
    assert main(["clean", "r", "--yes"]) == 0
    assert "deleted run r" in capsys.readouterr().err
    assert not (root / "runs" / "r").exists()
    assert list((root / "requests").iterdir()) == [other]
    assert main(["clean", "r", "--yes"]) == NoSuchRun.exit_code
    assert f"the store {root} has no run 'r'" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_of_a_link_only_the_link_goes(root: Path, capsys: pytest.CaptureFixture[str], target: str) -> None:
    (root / "runs" / "r").rename(root / "elsewhere")
    (root / "runs" / "r").symlink_to(root / target)
    before = sorted((root / "elsewhere").rglob("*"))
    assert main(["clean", "r", "--yes"]) == 0
    assert f"what it leads to is left as it is: {root / target}" in capsys.readouterr().err
    assert list((root / "runs").iterdir()) == []
    assert sorted((root / "elsewhere").rglob("*")) == before


def test_without_a_terminal_it_must_be_confirmed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "r"]) == 2
    assert "confirm with --yes" in capsys.readouterr().err
    assert (root / "runs" / "r" / "log").is_dir()


class _Typed:
    def __init__(self, answer: str) -> None:
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._answer


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("\n", False), ("", False)])
def test_on_a_terminal_it_asks(root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool) -> None:
    monkeypatch.setattr("sys.stdin", _Typed(answer))
    assert main(["clean"]) == 0
    assert (root / "runs" / "r").exists() is not gone


def test_a_run_that_is_led_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = RunLock(root / "runs" / "r" / "lock")
    lock.acquire()
    try:
        assert main(["clean", "r", "--yes"]) == 3
    finally:
        lock.release()
    assert "has a live leader" in capsys.readouterr().err
    assert (root / "runs" / "r" / "log").is_dir()


def test_a_damaged_run_can_be_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = next((root / "runs" / "r" / "log").iterdir())
    segment.write_bytes(segment.read_bytes().replace(b"created", b"creaked"))
    assert main(["clean", "r", "--yes"]) == 0
    assert "if something of this run still runs, it is not ended" in capsys.readouterr().err
    assert not (root / "runs" / "r").exists()


def test_a_run_that_never_began_can_be_deleted(root: Path) -> None:
    (root / "runs" / "half" / "log").mkdir(parents=True)
    (root / "runs" / "empty").mkdir()
    for run in ("half", "empty"):
        assert main(["clean", run, "--yes"]) == 0
    assert [path.name for path in (root / "runs").iterdir()] == ["r"]


# Garbage -----------------------------------------------------------------------------------------------------------


def with_files(root: Path) -> FileStore:
    """A store with named and unnamed files, all of them old."""
    store = FileStore(root)
    for path in (
        "runs/f/values/000/1.1.value",
        "runs/f/values/000/1.2.value",
        "runs/f/files/000/1.1/0/tree/a",
        "runs/f/files/000/1.1/0/tree/b/c",
        "runs/f/files/000/1.1/1/unnamed",
        "runs/f/logs/000/1-k.1.stdout",
        "runs/f/logs/000/9-k.1.stdout",
        "bundles/sha256-one/orch.json",
        "bundles/sha256-two/orch.json",
        "bundles/sha256-old/orch.json",
        f"values/{TEMPORARY}1-ff",
        f"runs/{TEMPORARY}2-ff/log/000001.events.jsonl",
    ):
        store.write_bytes(path, b"0123456789")
    events = [
        created("f"),
        ev.Added(job=1, kind="k"),
        ev.Planned(count=1),
        *started(1, run="f"),
        ev.Succeeded(
            job=1,
            attempt=1,
            value=ev.Blob(file="runs/f/values/000/1.1.value", size=10),
            stdout=ev.Blob(file="runs/f/logs/000/1-k.1.stdout", size=10),
            files=[ev.StoredFile("runs/f/files/000/1.1/0/tree", directory=True)],
        ),
        ev.Recoded(bundle="sha256-two", previous="sha256-one"),
        ev.Ended(outcome="succeeded"),
    ]
    write_run(root, "f", events, close="ended")
    return store


def age(root: Path) -> float:
    """The time at which all that there is has become old."""
    return max(path.lstat().st_mtime for path in root.rglob("*")) + YOUNG + 1


def test_garbage_is_what_no_event_names(root: Path) -> None:
    store = with_files(root)
    report = collect(store, now=age(root))
    assert report.notes == []
    assert (report.count, report.size) == (6, 60)
    left = {
        path for path in store.list() if path.endswith(("value", "stdout", "a", "c", "unnamed")) or "bundle" in path
    }
    assert left == {
        "runs/f/values/000/1.1.value",
        "runs/f/files/000/1.1/0/tree/a",
        "runs/f/files/000/1.1/0/tree/b/c",
        "runs/f/logs/000/1-k.1.stdout",
        "bundles/sha256-one/orch.json",
        "bundles/sha256-two/orch.json",
    }
    assert list(store.leftovers()) == []
    assert not any(TEMPORARY in path.name for path in root.rglob("*"))
    assert collect(store, now=age(root)).count == 0


def test_a_copy_of_a_run_is_left_alone(root: Path) -> None:
    """Its log names the files of the original: its own would all be garbage."""
    store = with_files(root)
    collect(store, now=age(root))
    shutil.copytree(root / "runs" / "f", root / "runs" / "copied")
    before = set(store.list("runs/copied"))
    report = collect(store, now=age(root))
    assert any("it is a copy of run f" in note for note in report.notes)
    assert set(store.list("runs/copied")) == before


def test_what_is_young_is_kept(root: Path) -> None:
    store = with_files(root)
    before = set(store.list())
    report = collect(store)
    assert report.count == 0
    assert set(store.list()) == before


def test_a_run_with_live_attempts_is_left_alone(root: Path) -> None:
    store = FileStore(root)
    write_run(root, "m", mixed("m"))
    store.write_bytes("runs/m/values/000/4.1.value", b"on its way")
    report = collect(store, now=age(root))
    assert any("run m is left alone" in note for note in report.notes)
    assert store.exists("runs/m/values/000/4.1.value")


def test_code_is_left_alone_where_a_log_cannot_be_read(root: Path) -> None:
    store = with_files(root)
    segment = next((root / "runs" / "r" / "log").iterdir())
    segment.write_bytes(segment.read_bytes().replace(b"created", b"creaked"))
    report = collect(store, now=age(root))
    assert any("so is all code" in note for note in report.notes)
    assert store.exists("bundles/sha256-old/orch.json")


def test_garbage_by_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_files(root)
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    assert main(["clean", "--garbage"]) == 0
    assert "freed 60 B: 6 files" in capsys.readouterr().err


# Wishes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["stop", "cancel", "pause", "resume"])
def test_a_wish_for_a_run_that_has_ended(root: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    before = list(read(root / "runs" / "r" / "log"))
    assert main([what]) == 0
    assert "run r has ended already: succeeded" in capsys.readouterr().err
    assert list(read(root / "runs" / "r" / "log")) == before


def test_pause_and_resume_without_a_leader(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(root, "p", [created("p"), ev.Added(job=1, kind="k"), ev.Planned(count=1)])
    assert main(["pause", "p"]) == 0
    assert "run p is paused; to go on: orch resume p" in capsys.readouterr().err
    assert main(["resume", "p"]) == 0
    assert "nobody leads it: orch replay p --restart" in capsys.readouterr().err
    wishes = [event.what for event in read(directory) if isinstance(event, ev.Requested)]
    assert wishes == ["pause", "resume"]


def unborn(root: Path, run: str) -> Path:
    """What a leader leaves that is killed while it plans."""
    directory = root / "runs" / run
    (directory / "planning").mkdir(parents=True)
    (directory / "lock").touch()
    return directory


def test_what_was_never_begun_is_garbage(root: Path) -> None:
    dead, led, young, strange = (unborn(root, name) for name in ("dead", "led", "young", "strange"))
    (strange / "notes").touch()
    lock = RunLock(led / "lock")
    lock.acquire()
    for path in (dead, led, strange):
        os.utime(path, (0, 0))
    report = collect(FileStore(root))
    assert [path.exists() for path in (dead, led, young, strange)] == [False, True, True, True]
    assert any(note.startswith("run led is left alone: it is being begun") for note in report.notes)
    lock.release()
