"""The call cache through the public API and the command: what runs, and what does not."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from flows import brief, cached
from support.calls import cache_in, everything
from support.command import log_directory, orch
from support.kills import SABOTEUR, agent_ends

from orch import replay
from orch import run as run_workflow
from orch.bus import events as ev
from orch.bus.reader import read
from orch.cli.main import main
from orch.store.file import FileStore

FLOW = Path(__file__).parent / "flows" / "cached.py"
UNSTORED_FLOW = """
import orch

@orch.job(cache=True)
def told(number):
    return "TEXT"

@orch.job(version="1")
def vouched_for():
    return "vouched for TEXT"

@orch.workflow
def main(where: str):
    return [*[told(number) for number in range(3)], vouched_for()]
"""
VALUE = [[0, 1, 2], 2, "text"]
FIRST = Counter({"leaf0": 1, "leaf1": 1, "leaf2": 1, "tree": 1, "written": 1, "passed_on": 1, "read": 1})
"""Bodies that run where nothing can be taken."""


class Place:
    """A store, and what has run there. `index` is where the index is."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.store = path / "s"
        self.index = path / "cache"
        self.counts = path / "counts"
        self.counts.mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.index))

    def run(
        self, run: str, workflow: Any = cached.main, /, *, settings: dict[str, Any] | None = None, **more: Any
    ) -> Any:
        """A run's value."""
        return run_workflow(workflow, str(self.counts), store=self.store, run_id=run, settings=settings, **more)

    def ran(self) -> Counter[str]:
        """How often each body has run since this was asked last."""
        found = Counter({path.name: len(path.read_text().splitlines()) for path in self.counts.iterdir()})
        shutil.rmtree(self.counts)
        self.counts.mkdir()
        return found

    def events(self, run: str, kind: type[ev.Event]) -> list[Any]:
        return [event for event in read(log_directory(self.store, run)) if isinstance(event, kind)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_values_of_earlier_runs_are_taken(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.run("a") == VALUE
    assert place.ran() == FIRST
    assert place.run("b") == VALUE
    assert place.ran() == {"read": 1}
    assert {job.state for job in replay(place.store, "b").values()} == {"done"}
    assert {event.run for event in place.events("b", ev.Reused)} == {"a"}
    assert place.run("c", count=4) == [[0, 1, 2, 3], 3, "text"]
    assert place.ran() == {"tree": 1, "leaf3": 1, "read": 1}
    job = next(event.job for event in place.events("c", ev.Added) if event.kind == "tree")
    assert main(["why", "c", str(job), "--store", str(place.store)]) == 0
    assert "ran, because argument 'count' differs" in capsys.readouterr().out
    assert place.run("d", count=4) == [[0, 1, 2, 3], 3, "text"]
    assert place.ran() == {"read": 1}


def test_an_index_that_was_lost_is_read_from_the_logs(place: Place) -> None:
    place.run("a")
    place.ran()
    shutil.rmtree(place.index)
    assert place.run("b") == VALUE
    assert place.ran() == {"read": 1}


def test_what_a_leader_tells_is_what_its_log_says(place: Place) -> None:
    place.run("a")
    told = index_of(place.index)
    assert told
    assert everything(FileStore(place.store), cache_in(place.path / "another"))
    assert set(told) <= set(index_of(place.path / "another"))  # what is told last may be cut off, and is read then


def index_of(place: Path) -> list[tuple[object, ...]]:
    """What is in an index, without bringing it up to date."""
    with contextlib.closing(sqlite3.connect(next(place.rglob("*.sqlite")))) as database:
        return database.execute("SELECT run, job, digest, kind, time, entry FROM calls ORDER BY run, job").fetchall()


def test_runs_that_were_deleted_are_remembered(place: Place) -> None:
    for run in ("a", "b"):
        place.run(run)
    place.ran()
    assert main(["clean", "a", "--yes", "--store", str(place.store)]) == 0
    assert run_value(place, "b") == VALUE
    shutil.rmtree(place.index)
    assert place.run("c") == VALUE
    assert place.ran() == {"read": 1}
    assert main(["clean", "--cache", "--yes", "--store", str(place.store)]) == 0
    assert run_value(place, "c") == VALUE  # what it has taken stays
    for run in ("b", "c"):
        assert main(["clean", run, "--yes", "--store", str(place.store)]) == 0
    assert main(["clean", "--cache", "--yes", "--store", str(place.store)]) == 0
    assert place.run("d") == VALUE
    assert place.ran() == FIRST


def run_value(place: Place, run: str) -> Any:
    """The value of a run that has ended, read again; its file with its contents."""
    done = orch("replay", run, "--restart", "--quiet", "--store", place.store, cwd=place.path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("setting", ["off", "all"])
def test_for_none_and_for_all(place: Place, setting: str) -> None:
    place.run("a", settings={"cache": setting})
    assert place.ran() == FIRST
    assert place.run("b", settings={"cache": setting}) == VALUE
    assert place.ran() == (FIRST if setting == "off" else {})


def test_where_there_can_be_no_index_jobs_just_run(place: Place) -> None:
    place.index.write_text("a file, where a directory should be")
    for run in ("a", "b"):
        assert place.run(run) == VALUE
        assert place.ran() == FIRST
        warnings = [event.message for event in place.events(run, ev.Warned) if "call cache" in event.message]
        assert len(warnings) == 1
        assert str(place.index) in warnings[0]


def test_files_that_nobody_needs_stay_for_later_calls(place: Place) -> None:
    assert place.run("a", brief.main) == 10
    left = [path.rpartition("/")[2] for path in FileStore(place.store).list("runs/a/files")]
    assert left == ["brief"]
    place.ran()
    assert place.run("b", brief.main) == 10
    assert place.ran() == {"plain": 1, "length": 1}


def test_another_code_runs_again(place: Place, tmp_path: Path) -> None:
    for number, text in enumerate(["1", "1", "2"]):
        flow = tmp_path / str(number) / "flow.py"
        flow.parent.mkdir()
        flow.write_text(FLOW.read_text() + f"\nNOTE = {text}\n")
        done = orch("run", "--quiet", "--store", place.store, flow, "--where", place.counts, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == VALUE
        assert place.ran() == ({"read": 1} if number == 1 else FIRST)


@pytest.mark.parametrize("how", ["--no-deploy", "--in-process"])
def test_code_that_is_not_stored_always_runs(place: Place, tmp_path: Path, how: str) -> None:
    """The code may be another one by now. One warning is enough."""
    flow = tmp_path / "flow.py"
    # Of another length, since Python takes bytecode for that of a source of the same second and size.
    for number, text in enumerate(["one", "another"]):
        flow.write_text(UNSTORED_FLOW.replace("TEXT", text))
        options = ("--store", place.store, "--run-id", f"r{number}", how)
        done = orch("run", *options, flow, "--where", place.counts, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [text] * 3 + ["vouched for one"]
        assert done.stderr.count("cannot be cached") == 1
        assert "--no-deploy" in done.stderr
    for job in ("1", "2"):
        why = orch("why", "r1", job, "--store", place.store, cwd=tmp_path).stdout
        assert "cannot be cached: nobody can tell whether it has changed" in why


def sabotaged(place: Place, run: str, at: int, when: str) -> subprocess.CompletedProcess[bytes]:
    """Begin a run whose leader is killed at an event."""
    plan = json.dumps({"store": str(place.store), "run": run, "at": at, "when": when, "do": ["leader"]})
    own = ["--quiet", "--run-id", run, "--store", str(place.store), str(FLOW), "--where", str(place.counts)]
    return subprocess.run([*SABOTEUR, plan, "run", *own], cwd=place.path, capture_output=True, timeout=60, check=False)


def test_leaders_that_are_killed_while_values_are_taken(place: Place) -> None:
    """Before the cache is asked, before its answer is durable, and after that. Nothing runs that need not."""
    words: list[str | Path] = ["--quiet", "--store", place.store, FLOW, "--where", place.counts]
    with agent_ends(place.store):
        for run in ("a", "b"):
            assert orch("run", "--run-id", run, *words, cwd=place.path).returncode == 0
        place.ran()
        marks = [
            event.seq for event in read(log_directory(place.store, "b")) if isinstance(event, ev.Surveyed | ev.Reused)
        ]
        for number, (at, when) in enumerate([(marks[0], "synced"), (marks[-1], "before"), (marks[-1], "synced")]):
            run = f"r{number}"
            assert sabotaged(place, run, at, when).returncode < 0
            done = orch("replay", run, "--restart", "--quiet", "--store", place.store, cwd=place.path)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == VALUE
            assert place.ran() == {"read": 1}
