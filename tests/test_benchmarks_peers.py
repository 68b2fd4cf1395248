"""What compares orch with other engines: a peer that fails is a row that says so, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from peers import supervise
from peers.__main__ import BEGIN, END, check_publish, publish, wanted
from peers.environments import Environment, Missing, environment_of
from peers.figures import Figure, Twice, cell
from peers.picture import picture
from peers.roster import PEERS, Peer
from peers.table import table

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PEER = Peer("Other", "threads", "other", "other", "Python, thread", "nothing")
OURS = PEERS[0]


def lines(peer: Peer, workload: str, *values: Any) -> list[dict[str, Any]]:
    """What drivers say: (round, size, seconds), or an error for seconds."""
    return [
        {"peer": peer.title, "workload": workload, "round": number, "size": size}
        | ({"error": said} if isinstance(said, str) else {"seconds": said})
        for number, size, said in values
    ]


def session(*measured: dict[str, Any]) -> dict[str, Any]:
    machine = {"processor": "P", "cores": 2, "memory": "4 GiB", "kernel": "6", "python": "3"}
    about = {"date": "now", "machine": machine, "rounds": 1, "load": [0.5, 0.7], "missing": {"Absent": "no wheel"}}
    return {**about, "versions": {PEER.title: "1.2"}, "measured": list(measured)}


def test_two_sizes_give_the_cost_of_a_job_and_one_its_seconds() -> None:
    rounds = [(0, 100, 1.0), (0, 1100, 3.0), (1, 100, 1.0), (1, 1100, 2.0), (2, 100, 1.0), (2, 1100, 9.0)]
    assert cell("jobs", lines(PEER, "jobs", *rounds)) == Figure(2.0, 1.0, 8.0, "ms")
    assert cell("one", lines(PEER, "one", (0, 1, 0.5), (1, 1, 0.25))) == Figure(0.375, 0.25, 0.5, "s")


def test_rounds_that_failed_do_not_count_unless_all_did() -> None:
    some = lines(PEER, "jobs", (0, 100, 1.0), (0, 1100, "late"), (1, 100, 1.0), (1, 1100, 2.0))
    assert cell("jobs", some) == Figure(1.0, 1.0, 1.0, "ms")
    assert cell("jobs", lines(PEER, "jobs", (0, 100, 1.0), (0, 1100, "late"))) == "late"
    assert cell("kill", lines(PEER, "kill", (0, 100, "gone"))) == "gone"
    assert cell("kill", [{"round": 0, "size": 9, "before": 5.0, "twice": 1.0, "seconds": 1}]) == Twice(1, 5)


def test_table_and_picture_show_what_failed_too() -> None:
    given = session(
        *lines(PEER, "one", (0, 1, 0.5)), *lines(PEER, "tree", (0, 511, "it broke")), *lines(OURS, "one", (0, 1, 0.25))
    )
    shown = table([OURS, PEER], given)
    (row,) = [line for line in shown.splitlines() if line.startswith("| Other")]
    assert row == "| Other, threads | 1.2 | Python, thread |  |  | failed | 0.50 (0.50-0.50) |  | nothing |"
    assert "- Other, threads, tree: it broke\n- Absent is missing: no wheel" in shown
    assert "shared" not in shown
    assert "shared with other work" in table([OURS], given | {"load": [9.0]})
    drawn = ET.fromstring(picture([OURS, PEER], given))
    bars = [rect.get("class") for rect in drawn.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class")]
    assert bars == ["bar us", "bar"]  # ours is the quicker one


def test_a_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    docs = tmp_path / "page.md"
    docs.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    publish(docs, "new", "<svg/>")
    publish(docs, "newer", "<svg/>")
    image = "![The figures as bars, the shortest on top](page.svg)"
    assert docs.read_text() == f"before\n\n{BEGIN}\n\nnewer\n\n{image}\n\n{END}\n\nafter\n"


def test_killing_is_tried_once_and_sizes_can_be_scaled() -> None:
    assert wanted(PEER, 0.1, first=True) == [
        "jobs:20",
        "jobs:120",
        "chain:5",
        "chain:25",
        "one:1",
        "kill:100",
        "tree:511",
    ]
    assert "kill:100" not in wanted(PEER, 0.1, first=False)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: Any, **_options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="much\nERROR: no such package\n")

    monkeypatch.setattr("subprocess.run", refuse)
    monkeypatch.setattr("venv.create", lambda *_given, **_options: None)
    with pytest.raises(Missing, match="ERROR: no such package"):
        environment_of(PEER, tmp_path)


DRIVER = """
import json, os, subprocess, sys
daemon = subprocess.Popen(["sleep", "1000"], start_new_session=True)
open(os.environ["TOLD"], "w").write(str(daemon.pid))
print(json.dumps({"workload": "jobs", "size": 1, "seconds": 2.0}), flush=True)
if sys.argv[1] == "slow":
    daemon.wait()
"""

SUPERVISOR = """
import json, sys
from pathlib import Path
from peers import supervise
from peers.environments import Environment
supervise.DRIVERS = Path(sys.argv[1])
supervise.adopt_orphans()
there = Environment(Path(sys.executable), "1")
form, patience = sys.argv[2:]
print(json.dumps(supervise.run_driver(there, "other", form, ["jobs:1", "one:1"], float(patience), Path("log"))))
"""


@pytest.mark.parametrize(
    ("form", "patience", "problem"), [("quick", 60, "ended with exit code 0"), ("slow", 1, "not done after 1 s")]
)
def test_a_driver_leaves_nothing_behind(tmp_path: Path, form: str, patience: float, problem: str) -> None:
    (tmp_path / "with_other.py").write_text(DRIVER)
    told = tmp_path / "told"
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path), form, str(patience)],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS), "TOLD": str(told), "BENCH_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout) == [
        {"workload": "jobs", "size": 1, "seconds": 2.0},
        {"workload": "one", "size": 1, "error": problem},
    ]
    assert not Path("/proc", told.read_text()).exists()
    assert list(tmp_path.glob(".bench-*")) == []


def test_our_own_row_and_the_standard_library_s(tmp_path: Path) -> None:
    command = ["-m", "peers", "orch", "executor", "--rounds", "1", "--scale", "0.01", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS), "BENCH_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    found = json.loads((tmp_path / "out" / "peers.json").read_text())["measured"]
    assert [one for one in found if "error" in one] == []
    again = {one["peer"]: one["twice"] for one in found if one["workload"] == "kill"}
    assert [again[peer.title] for peer in PEERS if peer.driver == "orch"] == [0, 0, 0]
    assert "**orch, fork**" in done.stdout


def test_drivers_are_there_and_nothing_of_peers_is_imported_here() -> None:
    assert {peer.driver for peer in PEERS} == {
        path.stem.removeprefix("with_") for path in supervise.DRIVERS.glob("with_*.py")
    }
    known = Environment(Path(sys.executable), "1").variables()
    assert not [name for name in known if name.startswith("ORCH_")]


def test_what_is_published_is_whole(tmp_path: Path) -> None:
    docs = tmp_path / "page.md"
    with pytest.raises(SystemExit, match="no such file"):
        check_publish(docs, whole=True)
    docs.write_text(f"{BEGIN}\n\n{END}\n", encoding="utf-8")
    check_publish(docs, whole=True)
    with pytest.raises(SystemExit, match="takes all engines"):
        check_publish(docs, whole=False)
