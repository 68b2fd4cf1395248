"""`orch tail`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.command import ORCH
from support.handmade import mixed, write_run

from orch.bus import events as ev
from orch.bus.codec import finish
from orch.cli.eventline import _DETAILS, event_line
from orch.cli.main import main


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "s"))
    write_run(tmp_path / "s", "r", mixed())
    return tmp_path / "s"


@pytest.mark.usefixtures("store")
def test_a_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(mixed()) + 1
    assert lines[0].split()[1:3] == ["1", "opened"]
    failed = next(line for line in lines if "bad header" in line)
    assert failed.split()[2:5] == ["failed", "align", "[2]"]
    assert failed.endswith("attempt 2, FAILED: ValueError: bad header")


def test_json_is_the_line_of_the_log(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    segment = store / "runs" / "r" / "log" / "000001.events.jsonl"
    kept = [json.loads(line) for line in segment.read_text().splitlines()]
    for event in kept:
        del event["crc"]
        event.pop("end", None)
    assert shown == kept
    assert list(shown[3])[:5] == ["seq", "time", "epoch", "group", "type"]


@pytest.mark.parametrize(
    ("options", "types"),
    [
        (["--type", "planned"], ["planned"]),
        (["--type", "r*", "--job", "2"], ["running", "retrying", "running"]),
        (["--job", "last"], ["added"]),
        (["--job", "fetch t*"], ["added"]),
        (["--job", "1"], ["added", "submitting", "submitted", "running", "logged", "annotated", "succeeded"]),
        (["--from", "26"], ["submitted", "running", "warned"]),
        (["--from", "25", "--job", "slow"], ["submitting", "submitted", "running"]),
    ],
)
@pytest.mark.usefixtures("store")
def test_what_is_wanted(capsys: pytest.CaptureFixture[str], options: list[str], types: list[str]) -> None:
    assert main(["tail", "--json", *options]) == 0
    assert [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()] == types
    assert main(["tail", *options]) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == types


@pytest.mark.usefixtures("store")
def test_names_are_known_also_when_the_beginning_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--from", "27"]) == 0
    assert "slow [4]" in capsys.readouterr().out


def test_following_an_ended_run_prints_all_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", [mixed()[0], ev.Planned(count=0), ev.Ended(outcome="succeeded")], close="ended")
    assert main(["tail", "-f", "--store", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["opened", "created", "planned", "ended", "closed"]


def test_following_a_stopped_run_that_was_carried_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", [mixed()[0], ev.Planned(count=0), ev.Requested(what="stop")], close="stopped")
    write_run(tmp_path, "r", [ev.Restarted(), ev.Ended(outcome="succeeded")])
    assert main(["tail", "-f", "--json", "--store", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["type"] == "ended"


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, buffered: str) -> None:
    warnings: list[ev.Event] = [ev.Warned(message="x" * 150) for _ in range(300)]
    write_run(tmp_path, "r", [mixed()[0], *warnings])
    process = subprocess.Popen(
        [*ORCH, "tail", "--store", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": buffered},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


def test_an_event_that_is_not_known_is_passed_through(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = store / "runs" / "r" / "log" / "000001.events.jsonl"
    last = json.loads(segment.read_bytes().splitlines()[-1])
    seq = last["seq"] + 1
    line = f'{{"seq":{seq},"time":"{last["time"]}","epoch":1,"group":{seq},"type":"hatched","job":4'
    with segment.open("ab") as file:
        file.write(finish(line.encode(), end=True))
    assert main(["tail", "--type", "hatched"]) == 0
    out = capsys.readouterr().out
    assert "slow [4]" in out
    assert "not known to this version" in out
    assert main(["tail", "--type", "hatched", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "hatched"


@pytest.mark.parametrize("kind", ev.KNOWN)
def test_every_type_has_words_of_its_own(kind: type[ev.Event]) -> None:
    assert kind in _DETAILS


def test_control_characters_do_no_harm() -> None:
    line = event_line(ev.Warned(message="a\nb\x1b[31mc", seq=1, time="2026-01-01T00:00:00.000000Z"), "")
    assert line.isprintable()


@pytest.mark.usefixtures("store")
def test_what_can_match_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--type", "suceeded"]) == 2
    assert "--type 'suceeded' matches no type of event (did you mean succeeded?)" in capsys.readouterr().err
    assert main(["tail", "--from", "9999"]) == 0
    assert "there is no event 9999 to begin at" in capsys.readouterr().err
    assert main(["tail", "--job", "nobody"]) == 2
    assert "the run has no job with an id, kind or name like 'nobody'" in capsys.readouterr().err
    assert main(["tail", "--job", "fetch", "--from", "28"]) == 0
    assert "no such event from 28 on is of a job" in capsys.readouterr().err
    assert main(["tail", "--type", "closed"]) == 0  # it may come yet
    assert capsys.readouterr() == ("", "")
