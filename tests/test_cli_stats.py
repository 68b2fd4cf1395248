"""`orch stats`, of logs that were written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.handmade import created, mixed, started, write_run

from orch.bus import events as ev
from orch.cli.main import main
from orch.cli.stats import SORT
from orch.statistics import SORTS


def heavy() -> list[ev.Event]:
    """A job with a long name that uses much and asks for more, and was lost before."""
    huge = ev.Resources(cores=64, memory=999 << 30, disk=40 << 40)
    used = ev.Usage(wall=86400 * 9.5, user=86399.5, system=3599.5, memory=1023 << 20, disk=1023 << 30)
    return [
        created("h"),
        ev.Added(job=1, kind="a.kind.with_quite_a_long_name_of_its_own", resources=huge),
        ev.Planned(count=1),
        *started(1, run="h"),
        ev.Retrying(job=1, attempt=1, reason="LOST", usage=used),
        *started(1, 2, run="h"),
        ev.Succeeded(job=1, attempt=2, usage=used),
    ]


def test_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "h", heavy())
    assert main(["stats", "--store", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run h: 1 jobs, 2 attempts: 1 FINISHED, 1 LOST"
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if "MEDIAN" in line] == ["RUN", "KIND", "WORKER"]
    (wasted, *_) = [line for line in lines if "wasted" in line]
    assert "608d of cores by 1 attempt in vain" in wasted
    assert not any(line.endswith(" ") for line in lines)


def test_one_table_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", mixed())
    assert main(["stats", "r", "--by", "kind", "--store", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "KIND" in out
    assert "WORKER" not in out
    assert "1 more are live" in out


def test_all_of_it_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", mixed())
    assert main(["stats", "--json", "--sort", "attempts", "--store", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["live"]) == ("r", 1)
    assert found["total"]["ends"] == {"FAILED": 2, "FINISHED": 1}
    assert found["total"]["time"]["max"] == 1.5
    assert [kind["name"] for kind in found["kinds"]][:2] == ["align", "fetch"]
    assert {kind["name"]: kind["jobs"] for kind in found["kinds"]}["fetch"] == 2
    assert [worker["name"] for worker in found["workers"]] == ["here"]
    assert found["total"]["wasted"]["attempts"] == 2


def test_a_run_in_which_nothing_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", [created("r"), ev.Added(job=1, kind="one"), ev.Planned(count=1)])
    assert main(["stats", "--store", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("run r: 1 jobs, 0 attempts\n")
    assert "one" in out


def test_a_word_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", mixed())
    assert main(["stats", "--sort", "beauty", "--store", str(tmp_path)]) == 2
    assert "choose from name, jobs" in capsys.readouterr().err


def test_what_can_be_sorted_by_is_written_in_two_places() -> None:
    assert ("name", *SORTS) == SORT
