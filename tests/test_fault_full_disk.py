"""A disk that is really full: of the log, of values, of the agent's journal, of scratch.

Where the leader can still write, an attempt fails with a reason that says so; where it cannot, it stops with exit 6.
Once there is room again, the run is carried on to its end.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from support.command import orch
from support.kills import Case, agent_ends, agent_log
from support.mounts import grow, play, small_disk
from support.saboteur import agent_of

FLOWS = Path(__file__).parent / "flows"
FULL = "No space left on device"


def test_the_disk_of_the_log_is_full(tmp_path: Path) -> None:
    play(scenario_of_the_log, tmp_path)


def scenario_of_the_log(place: Path) -> None:
    """The whole store is on it: log, values, journal. It is full from some event on."""
    for at in (3, 15, 24, 35, 45):  # the last group of the run begins behind these
        case = Case(place / str(at), "r")
        small_disk(case.store, "3m")
        with agent_ends(case.store):
            plan = {"at": at, "when": "checked", "do": ["fill"], "where": str(case.store)}
            full = case.call([*case.sabotage(**plan), *case.begin("--retries", "1")])
            assert full.returncode in (1, 6), (at, full)
            assert FULL in full.stderr, (at, full.stderr)
            assert "Traceback" not in full.stderr, (at, full.stderr)
            assert full.stdout == "", at
            assert full.stderr.count("orch: ") == 1, (at, full.stderr)
            again = orch(*case.carry_on(), cwd=case.place)
            assert again.returncode in (1, 2, 6), (at, again)
            assert "Traceback" not in again.stderr, (at, again.stderr)
            (case.store / "ballast").unlink()
            done = case.finish()
            if done.returncode == 1:  # this leader has heard of what failed meanwhile, for want of room
                done = case.finish()
            case.check(done)
            assert agent_log(case.store).count("\n") < 10, agent_log(case.store)


def bulky(place: Path, *options: str, **sizes: int) -> list[str]:
    """A command line that begins a run of `bulky.py`."""
    (place / "counts").mkdir(exist_ok=True)
    own = ["run", "--quiet", "--run-id", "r", "--store", str(place / "s"), *options, str(FLOWS / "bulky.py")]
    given = [word for name, size in sizes.items() for word in (f"--{name.replace('_', '-')}", str(size))]
    return [*own, "--where", str(place / "counts"), *given]


def test_a_value_does_not_fit_into_the_store(tmp_path: Path) -> None:
    play(scenario_of_a_value, tmp_path)


def scenario_of_a_value(place: Path) -> None:
    """The attempt fails; what it was about to return is not there, whole or half."""
    small_disk(place / "s", "2m")
    with agent_ends(place / "s"):
        full = orch(*bulky(place, value_size=5_000_000), cwd=place)
        assert full.returncode == 1, full
        assert FULL in full.stderr, full.stderr
        assert "free some space" in full.stderr, full.stderr
        left = [path for path in (place / "s/runs/r/values").rglob("*") if path.is_file()]
        assert not left, left
        grow(place / "s", "20m")
        done = orch(*Case(place, "r").carry_on(), cwd=place)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == ["small", 5_000_000, 10]
        ran = {path.name: len(path.read_text().splitlines()) for path in (place / "counts").iterdir()}
        assert ran == {"small": 1, "scratch": 1, "value": 2}, ran


def test_scratch_is_full(tmp_path: Path) -> None:
    play(scenario_of_scratch, tmp_path)


def scenario_of_scratch(place: Path) -> None:
    """A body finds no room for its file; its program says so, and nothing of it stays."""
    work = place / "work"
    small_disk(work, "2m")
    with agent_ends(place / "s"):
        full = orch(*bulky(place, "--work-dir", str(work), scratch_size=5_000_000), cwd=place)
        assert full.returncode == 1, full
        assert FULL in full.stderr, full.stderr
        assert "Traceback" not in agent_log(place / "s")
        left = list(work.rglob("scratch/*"))
        assert not left, left
        grow(work, "20m")
        done = orch(*Case(place, "r").carry_on(), cwd=place)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == ["small", 10, 5_000_000]


def test_there_is_not_even_room_for_a_scratch_directory(tmp_path: Path) -> None:
    play(scenario_without_inodes, tmp_path)


def scenario_without_inodes(place: Path) -> None:
    """No file can be made any more: attempts cannot be started, and say why."""
    work = place / "work"
    small_disk(work, "2m,nr_inodes=40")
    with agent_ends(place / "s"):
        case = Case(place, "r")
        plan = {"at": 14, "when": "checked", "do": ["files"], "where": str(work)}
        full = case.call([*case.sabotage(**plan), *case.begin("--work-dir", str(work))])
        assert full.returncode == 1, full
        assert FULL in full.stderr, full.stderr
        for path in work.glob("ballast-*"):
            path.unlink()
        case.check(case.finish())


def with_a_full_journal(case: Case, agents: Path, counts: Path, do: list[str]) -> list[str]:
    """A run of 200 jobs, in the middle of which the disk of the agent's journal is filled, or worse."""
    counts.mkdir()
    small_disk(agents, "1m")
    own = ["run", "--quiet", "--run-id", "r", "--store", str(case.store), str(FLOWS / "counted.py")]
    options = ["--where", str(counts), "--jobs", "200", "--seconds", "0.01"]
    return [*case.sabotage(at=250, when="checked", do=do, where=str(agents)), *own, *options]


def test_the_journal_of_the_agent_cannot_be_written(tmp_path: Path) -> None:
    play(scenario_of_the_journal, tmp_path)


def scenario_of_the_journal(place: Path) -> None:
    """What is not in the journal is not started. The agent goes on, and so does the run once there is room."""
    case, agents, counts = Case(place, "r"), place / "s/agents", place / "counts"
    with agent_ends(case.store):
        full = case.call(with_a_full_journal(case, agents, counts, ["fill"]))
        agent = agent_of(str(case.store))
        assert agent, "the agent has died"
        assert full.returncode == 1, full
        assert f"journal cannot be written: {FULL}" in full.stderr, full.stderr
        assert agent_log(case.store).count("\n") <= 1, agent_log(case.store)
        (agents / "ballast").unlink()
        done = case.finish()
        assert agent_of(str(case.store)) == agent, "it is another agent"
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == sum(range(200))
        ran = {path.name: len(path.read_text().splitlines()) for path in counts.iterdir()}
        assert ran == {str(number): 1 for number in range(200)}, ran


def test_the_agent_dies_while_its_journal_is_full(tmp_path: Path) -> None:
    play(scenario_of_a_death, tmp_path)


def scenario_of_a_death(place: Path) -> None:
    """The next one finds a torn journal on a full disk. What it does not know is handed over anew."""
    case, agents, counts = Case(place, "r"), place / "s/agents", place / "counts"
    with agent_ends(case.store):
        words = with_a_full_journal(case, agents, counts, ["fill", "leader"])
        assert case.call(words).returncode == -signal.SIGKILL
        os.kill(agent_of(str(case.store)), signal.SIGKILL)
        full = orch(*case.carry_on(), cwd=place)
        assert full.returncode in (1, 6), full
        assert FULL in full.stderr, full.stderr
        (agents / "ballast").unlink()
        done = case.finish()
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == sum(range(200))
