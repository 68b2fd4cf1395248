"""Pilots in a real Slurm: how much faster many short jobs are, and what becomes of a run when leader or pilot goes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from support.command import orch, running
from support.kills import NIGHTLY
from support.real import Slurm, until

FLOW = Path(__file__).parents[1] / "flows" / "many_lines.py"
MANY = 1000 if NIGHTLY else 400
FEW = 60 if NIGHTLY else 24
"""Jobs that are tasks of their own, to compare with."""

LEAST = 20 if NIGHTLY else 5
"""How many times as fast jobs have to be in a pilot."""

NOOP = """
import orch

@orch.job
def nothing(number: int) -> int:
    return number

@orch.workflow
def main(jobs: int, apart: bool = False) -> list[int]:
    # what asks for different times is no array
    return [(nothing.options(walltime=600 + number) if apart else nothing)(number) for number in range(jobs)]
"""


class Case:
    """A store, and where jobs note that they run."""

    def __init__(self, root: Path, slurm: Slurm) -> None:
        slurm.idle()
        self.slurm, self.root, self.store, self.ran = slurm, root, root / "store", root / "ran"
        self.ran.mkdir()
        (root / "noop.py").write_text(NOOP)

    def arguments(self, run: str, pilot: str, *more: str) -> list[str]:
        """Of `orch`; without a pilot each job is a task."""
        pilots = ["--pilot", pilot, "--batch-pilot-address", "127.0.0.1"] if pilot else []
        return ["run", "--adapter", "slurm", "--store", str(self.store), "--run-id", run, *pilots, *more]

    def seconds(self, run: str) -> float:
        """From the first attempt that was handed over to the last that ended."""
        done = orch("log", "export", run, "--store", self.store, cwd=self.root)
        assert done.returncode == 0, done.stderr
        from datetime import datetime

        events = [json.loads(line) for line in done.stdout.splitlines()]
        times = [datetime.fromisoformat(each["time"]) for each in events if each["type"] in ("submitting", "succeeded")]
        return (times[-1] - times[0]).total_seconds()

    def runs(self) -> Counter[int]:
        """How often each job has begun."""
        return Counter({int(path.suffix[1:]): len(path.read_text().split("\n")) - 1 for path in self.ran.iterdir()})


@pytest.fixture
def case(tmp_path: Path, slurm: Slurm) -> Case:
    return Case(tmp_path, slurm)


def ends_well(process: subprocess.Popen[str], within: float = 240) -> object:
    """The run's value."""
    out, err = process.communicate(timeout=within)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.timeout(600)
def test_many_short_jobs_are_much_faster(case: Case) -> None:
    flow = str(case.root / "noop.py")
    with running(*case.arguments("apart", "", flow, "--jobs", str(FEW), "--apart"), cwd=case.root) as process:
        ends_well(process)
    with running(*case.arguments("pilot", "nodes=1,cores=4", flow, "--jobs", str(MANY)), cwd=case.root) as process:
        assert ends_well(process) == list(range(MANY))
    apart, pilot = FEW / case.seconds("apart"), MANY / case.seconds("pilot")
    print(f"one task each: {apart:.1f} jobs/s; in a pilot: {pilot:.1f} jobs/s")  # noqa: T201 - for `make test-real ARGS=-s`
    assert pilot >= LEAST * apart
    assert case.slurm.ask("squeue", "-h") == ""


@pytest.mark.timeout(600)
def test_the_leader_dies_and_the_next_one_finds_the_pilots(case: Case) -> None:
    """200 jobs through two pilots; nothing runs twice."""
    folder = ["--folder", str(case.ran), "--jobs", "200"]
    with running(*case.arguments("die", "nodes=2,cores=2,time=10m", str(FLOW), *folder), cwd=case.root) as process:
        until(lambda: len(case.runs()) > 50 or process.poll() is not None, "a quarter of the jobs", 120)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running("replay", "die", "--restart", "--store", case.store, cwd=case.root) as process:
        assert ends_well(process) == list(range(200))
    assert case.runs() == Counter(dict.fromkeys(range(200), 1))
    until(lambda: case.slurm.ask("squeue", "-h") == "", "an empty queue", 60)


@pytest.mark.timeout(600)
def test_a_pilot_that_is_cancelled_by_somebody_costs_nothing(case: Case) -> None:
    gate = case.root / "gate"
    jobs = [str(FLOW), "--folder", str(case.ran), "--jobs", "8", "--gate", str(gate)]
    with running(*case.arguments("gone", "nodes=1,cores=4", "--retries", "0", *jobs), cwd=case.root) as process:
        until(lambda: len(case.runs()) >= 4 or process.poll() is not None, "jobs in a pilot", 120)
        [job] = case.slurm.ask("squeue", "-h", "-o", "%i").split()
        case.slurm.ask("scancel", job)
        gate.write_text("")
        assert ends_well(process) == list(range(8))
