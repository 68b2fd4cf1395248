"""`list`, `status`, `replay`, `why` and `logs`, of logs that were written by hand."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.handmade import created, mixed, write_run

from orch.bus import events as ev
from orch.cli.main import main
from orch.history import replay
from orch.store.file import FileStore

COUNTS = {"waiting": 2, "ready": 1, "running": 1, "done": 1, "failed": 1, "skipped": 1}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one run, which is also the one that commands find by default."""
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "s"))
    write_run(tmp_path / "s", "r", mixed())
    return tmp_path / "s"


@pytest.mark.usefixtures("store")
def test_status_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == "r"
    assert found["name"] == "mixed"
    assert found["tags"] == {"who": "me"}
    assert found["state"] == "running"  # there is no lock to look at, so nobody can say that it is not led
    assert found["jobs_total"] == 7
    assert {name: count for name, count in found["counts"].items() if count} == COUNTS
    assert found["leader"]["epoch"] == 1
    assert found["leader"]["alive"] is None
    assert found["warnings"] == ["job spare was made and never used"]
    failed = found["jobs"]["2"]
    assert (failed["state"], failed["attempt"], failed["exit_code"]) == ("failed", 2, 4)
    assert failed["why"] == "FAILED: ValueError: bad header"
    assert found["jobs"]["1"]["annotations"] == {"records": 12}
    assert found["jobs"]["4"]["resources"] == {"cores": 2.0, "memory": 1 << 30}


@pytest.mark.usefixtures("store")
def test_status_of_one_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "r", "--json", "--state", "failed"]) == 0
    assert list(json.loads(capsys.readouterr().out)["jobs"]) == ["2"]


@pytest.mark.usefixtures("store")
def test_status_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "run      r (mixed)" in out
    assert "jobs     7: 2 waiting, 1 ready, 1 running, 1 done, 1 failed, 1 skipped" in out
    assert "needs align [2], which failed" in out
    assert "\x1b" not in out


def test_many_jobs_are_not_all_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs: list[ev.Event] = [ev.Added(job=n, kind=f"k{n}") for n in range(1, 201)]
    write_run(tmp_path, "big", [created("big"), *jobs, ev.Planned(count=200)])
    assert main(["status", "--store", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("ready") < 60
    assert "and 150 more jobs" in out


@pytest.mark.usefixtures("store")
def test_replay_as_it_stood(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for at in range(1, 28):
        assert main(["replay", "r", "--at", str(at), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["seq"] == at
        seen.append(found["counts"]["done"])
    assert seen[0] == 0
    assert seen[-1] == 1
    assert seen == sorted(seen)
    assert main(["replay", "--at", "12"]) == 0
    assert "(at event 12)" in capsys.readouterr().out


@pytest.mark.usefixtures("store")
def test_replay_beyond_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--at", "9999"]) == 2
    assert "there is no event 9999" in capsys.readouterr().err


def test_replay_works_on_a_copied_log(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    (store / "runs" / "r" / "log").rename(copy)
    assert main(["replay", "--store", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "r"
    assert main(["tail", "--store", str(copy), "--type", "planned"]) == 0
    assert "7 jobs" in capsys.readouterr().out


def test_list(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(store, "second", [created("second"), ev.Planned(count=0), ev.Ended(outcome="succeeded")], close="ended")
    assert main(["list", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert [(run["run"], run["state"]) for run in runs] == [("second", "succeeded"), ("r", "running")]
    assert runs[0]["ended"]
    assert "jobs" not in runs[0]
    assert main(["list", "--limit", "1"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["RUN", "STATE", "JOBS"]
    assert line.split()[:2] == ["second", "succeeded"]


@pytest.mark.parametrize(
    ("last", "reason", "state"),
    [
        ([], "stopped", "stopped"),
        ([], "left", "interrupted"),
        ([ev.Requested(what="pause")], "", "paused"),
        ([ev.Requested(what="stop")], "", "stopping"),
        ([ev.Requested(what="cancel")], "", "cancelling"),
    ],
)
def test_states_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], last: list[ev.Event], reason: str, state: str
) -> None:
    write_run(tmp_path, "r", [*mixed(), *last], close=reason)
    assert main(["list", "--json", "--store", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == state


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FileStore(tmp_path).create()
    assert main(["list", "--store", str(tmp_path)]) == 0
    assert "has no runs yet" in capsys.readouterr().err
    assert main(["list", "--json", "--store", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["status", "--store", str(tmp_path)]) == 2
    assert "has no runs" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "replay", "tail", "stop", "pause", "resume", "cancel"])
def test_no_such_run(store: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    write_run(store, "20260101-120000-abcd", [created("x")])
    assert main([command, "20260101-120000-abce"]) == 2
    assert "did you mean 20260101-120000-abcd?" in capsys.readouterr().err
    assert main([command, "../r"]) == 2
    assert "cannot be a run id" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "replay", "tail"])
def test_a_path_without_a_log_is_what_is_complained_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "no store"))
    (tmp_path / "st öre" / "runs").mkdir(parents=True)
    assert main([command, f"{tmp_path}/st öre/runs"]) == 2
    said = capsys.readouterr().err
    assert "st öre/runs' cannot be a run id, and no log is there" in said
    assert "no store" not in said


def test_a_damaged_log_is_4(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = store / "runs" / "r" / "log" / "000001.events.jsonl"
    data = bytearray(segment.read_bytes())
    data[300] ^= 1
    segment.write_bytes(data)
    for command in (["status"], ["replay"], ["tail"], ["logs", "1"], ["why", "1"]):
        assert main(command) == 4
        assert str(segment) in capsys.readouterr().err
    assert main(["list", "--json"]) == 0  # the other runs of the store are still of interest
    assert json.loads(capsys.readouterr().out)[0]["state"] == "damaged"


@pytest.mark.usefixtures("store")
def test_logs_go_where_they_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "1"]) == 0
    said = capsys.readouterr()
    assert said.out == "out 1\n"
    assert "err 1\n" in said.err
    assert "== job fetch one [1], attempt 1 (succeeded): stdout, 6 B" in said.err
    assert "== job fetch one [1], attempt 1: log, 1 line" in said.err
    assert "info: half way" in said.err


@pytest.mark.parametrize(("attempt", "lines"), [("1", ["try 1"]), ("2", ["line 0", "line 59"])])
@pytest.mark.usefixtures("store")
def test_logs_of_an_attempt(capsys: pytest.CaptureFixture[str], attempt: str, lines: list[str]) -> None:
    assert main(["logs", "r", "align", "--attempt", attempt]) == 0
    err = capsys.readouterr().err.splitlines()
    assert all(line in err for line in lines)
    assert f"attempt {attempt}" in err[0]


@pytest.mark.usefixtures("store")
def test_logs_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "4"]) == 0
    assert "is running: its output is shown once it has ended" in capsys.readouterr().err
    assert main(["logs", "7"]) == 0
    assert "has not run yet" in capsys.readouterr().err
    assert main(["logs", "2", "--attempt", "5"]) == 2
    assert "has had 2 attempts" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_jobs_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "fetch one"]) == 0
    assert capsys.readouterr().out == "out 1\n"
    assert main(["logs", "fetch"]) == 2
    err = capsys.readouterr().err
    assert "2 jobs of run r are called 'fetch'" in err
    assert "fetch one [1] (done), fetch two [6] (ready)" in err
    assert main(["why", "aling"]) == 2
    assert "did you mean align?" in capsys.readouterr().err


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.usefixtures("store")
def test_all_logs_into_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], compress: bool) -> None:
    target = tmp_path / "deep" / "logs"
    assert main(["logs", "--all", "--to", str(target), *(["--gzip"] if compress else [])]) == 0
    suffix = ".gz" if compress else ""
    names = ["1-fetch_one.1.stderr", "1-fetch_one.1.stdout", "2-align.1.stderr", "2-align.2.stderr", "2-align.2.stdout"]
    assert sorted(path.name for path in target.iterdir()) == [name + suffix for name in names]
    data = (target / f"1-fetch_one.1.stdout{suffix}").read_bytes()
    assert (gzip.decompress(data) if compress else data) == b"out 1\n"
    assert "5 files" in capsys.readouterr().err


def test_large_output_comes_from_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FileStore(tmp_path)
    events = mixed()[:-5]
    large = ev.Blob(file="runs/r/logs/000/4-slow.1.stdout", size=9, cut=2048)
    lost = ev.Blob(file="runs/r/logs/000/4-slow.1.stderr", size=9)
    ended = ev.Succeeded(job=4, attempt=1, stdout=large, stderr=lost)
    write_run(tmp_path, "r", [*events, *mixed()[-4:], ended])
    store.write_bytes(large.file, b"much text")
    assert main(["logs", "4", "--store", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == "much text"
    assert "2 KiB more were cut out" in said.err
    assert "(lost: " in said.err


@pytest.mark.usefixtures("store")
def test_why_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "2"]) == 0
    out = capsys.readouterr().out
    assert "job align [2] of run r is failed" in out
    assert "2 of 2 tries used up" in out
    assert out.count("FAILED: ValueError: bad header") == 1
    assert "exit     4" in out
    assert "host     here, local, process 4711, x2" in out
    assert "    line 59" in out
    assert "    line 10\n" in out
    assert "    line 9\n" not in out
    assert "the rest: orch logs r 2" in out


@pytest.mark.usefixtures("store")
def test_why_not_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "last"]) == 0
    out = capsys.readouterr().out
    assert "→ after [5] is waiting" in out
    assert "→ slow [4] is running" in out
    assert main(["why", "6"]) == 0
    assert "wants    1 cores" in capsys.readouterr().out
    assert main(["why", "3"]) == 0
    assert "see: orch why r 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("last", "reason", "words"),
    [
        ([], "stopped", "stopped; carry it on: orch replay r --restart"),
        ([], "left", "interrupted; carry it on"),
        ([ev.Requested(what="pause")], "", "paused; let it go on: orch resume r"),
    ],
)
def test_why_the_whole_run_does_not_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], last: list[ev.Event], reason: str, words: str
) -> None:
    write_run(tmp_path, "r", [*mixed(), *last], close=reason)
    assert main(["why", "6", "--store", str(tmp_path)]) == 0
    assert f"run      {words}" in capsys.readouterr().out


def examples() -> list[dict[str, Any]]:
    """The JSON objects in the commands' documentation, by their order."""
    text = (Path(__file__).parent.parent / "docs" / "commands.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


@pytest.mark.usefixtures("store")
def test_the_documentation_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    event, run, status = examples()
    assert main(["tail", "--json", "--type", "running"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[0])
    assert list(shown) == list(event)
    assert main(["list", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert list(shown) == list(run)
    assert list(shown["counts"]) == list(run["counts"])
    assert list(shown["leader"]) == list(run["leader"])
    assert main(["status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == [*run, "jobs"]
    assert list(shown["jobs"]["2"]) == list(status["jobs"]["2"])
    assert main(["replay", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown


@pytest.mark.usefixtures("store")
def test_what_a_job_has_noted_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "1"]) == 0
    assert "  noted    records = 12" in capsys.readouterr().out
    assert main(["status"]) == 0
    assert "records=12" in next(line for line in capsys.readouterr().out.splitlines() if "fetch one" in line)


def test_a_copied_run_is_a_run(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(store / "runs" / "r", copied)
    for given in (["status", "--store", str(copied)], ["replay", str(copied)], ["status", str(copied / "log")]):
        assert main(given) == 0
        assert "run      r (mixed)" in capsys.readouterr().out
    assert set(replay(copied)) == set("1234567")


def test_a_copy_in_the_store_is_looked_at_and_not_carried_on(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(store / "runs" / "r", store / "runs" / "h")
    before = sorted((store / "runs").rglob("*"))
    for command in (["replay", "h", "--restart"], ["cancel", "h"], ["stop", "h"]):
        assert main(command) == 2
        assert "run h is a copy of run r" in capsys.readouterr().err
    assert sorted((store / "runs").rglob("*")) == before
    assert main(["status", "h"]) == 0
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    assert {run["run"] for run in json.loads(capsys.readouterr().out)} == {"r", "h"}
    assert main(["log", "verify", "h"]) == 0
    assert "this is a copy of run r" in capsys.readouterr().out
    assert main(["clean", "h", "--yes"]) == 0
    assert (store / "runs" / "r").exists()


def test_list_goes_on_past_what_cannot_be_read(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, epoch in (("a", 1), ("b", 2)):
        log = store / "runs" / name / "log"
        shutil.copytree(store / "runs" / "r" / "log", log)
        (log / f"{epoch:06d}.events.jsonl").unlink(missing_ok=True)
        os.mkfifo(log / f"{epoch:06d}.events.jsonl")
    (store / "runs" / "loop").symlink_to("loop")
    assert main(["list", "--json"]) == 0
    found = {run["run"]: run["state"] for run in json.loads(capsys.readouterr().out)}
    assert found == {"r": "running", "a": "damaged", "b": "damaged", "loop": "unreadable"}


def test_the_hint_at_more_jobs_names_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs: list[ev.Event] = [ev.Added(job=n, kind="one") for n in range(1, 61)]
    write_run(tmp_path / "s", "r", [created("r"), *jobs, ev.Planned(count=60)])
    assert main(["status", "--store", str(tmp_path / "s")]) == 0
    assert f"… and 10 more jobs: orch status r --store {tmp_path}/s --state STATE" in capsys.readouterr().out
    assert main(["why", "--store", str(tmp_path / "s"), "two"]) == 2
    assert f"see: orch status r --store {tmp_path}/s" in capsys.readouterr().err


def test_control_characters_never_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ev.Added(job=1, kind="one", name="a\x1b]0;title\x07b")
    write_run(tmp_path / "s", "r", [created("r"), job, ev.Planned(count=1)])
    for given in (["status"], ["why", "1"], ["why", "2"], ["logs", "1"], ["tail"]):
        main([*given, "--store", str(tmp_path / "s")])
        shown = capsys.readouterr()
        assert not any(c in shown.out + shown.err for c in "\x1b\x07")
