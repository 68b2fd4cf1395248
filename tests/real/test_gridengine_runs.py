"""Runs on a real Grid Engine: what becomes of them when leaders and qmaster go, and of jobs that it puts in error."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from support.command import orch, running
from support.gridengine_rig import GridEngine, Shims
from support.kills import NIGHTLY
from support.real import until

FLOW = """
import time
from pathlib import Path

import orch


@orch.job
def line(folder: str, number: int, gate: str) -> int:
    with open(f"{folder}/ran.{number}", "a") as file:
        file.write("x\\n")
    while gate and not Path(gate).exists():
        time.sleep(0.1)
    return number


@orch.workflow
def many(folder: str, jobs: int = 10, gate: str = "") -> list[int]:
    return [line(folder, number, gate) for number in range(jobs)]
"""
WORDCOUNT = Path(__file__).parents[2] / "examples" / "wordcount.py"

MOST_CALLS = 30
"""A minute, of all of Grid Engine's programs together."""

OUTAGE = 60 if NIGHTLY else 15
"""Seconds for which qmaster is away."""


class Case:
    """A folder with a store, and where the jobs of a run note that they run."""

    def __init__(self, root: Path, system: GridEngine) -> None:
        system.idle()
        self.system = system
        self.root = root
        self.store = root / "store"
        self.flow = root / "flow.py"
        self.flow.write_text(FLOW)
        self.ran = root / "ran"
        self.ran.mkdir()
        self.gate = root / "gate"
        self.shims = Shims(root / "shims")

    def run(self, run: str, jobs: int, *more: str) -> list[str]:
        """The arguments of `orch`."""
        options = ["--store", str(self.store), "--run-id", run]
        flow = [str(self.flow), "--folder", str(self.ran), "--jobs", str(jobs)]
        return ["run", "--adapter", "gridengine", *options, *more, *flow]

    def runs(self) -> Counter[int]:
        """How often each job has begun."""
        return Counter({int(path.suffix[1:]): path.read_text().count("\n") for path in self.ran.iterdir()})

    def busiest_minute(self) -> int:
        """How many calls there were within 60 seconds, at most."""
        times = sorted(when for when, _ in self.shims.calls())
        return max(sum(when <= each < when + 60 for each in times) for when in times)


@pytest.fixture
def case(tmp_path: Path, gridengine: GridEngine, monkeypatch: pytest.MonkeyPatch) -> Case:
    case = Case(tmp_path, gridengine)
    monkeypatch.setenv("PATH", case.shims.path)
    return case


def ends_well(process: subprocess.Popen[str], within: float = 240) -> tuple[object, str]:
    """Its result, and what it has written to stderr."""
    out, err = process.communicate(timeout=within)
    assert process.returncode == 0, err
    return json.loads(out), err


def test_many_jobs_through_an_array_and_the_leader_dies_on_the_way(case: Case) -> None:
    """Few calls; nothing runs twice, and nothing is lost."""
    with running(*case.run("many", 100), cwd=case.root) as process:
        until(lambda: len(case.runs()) > 25 or process.poll() is not None, "a quarter of the jobs", 200)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 25 < len(case.runs()) < 100, "it was killed in the middle"
    with running("replay", "many", "--restart", "--store", str(case.store), cwd=case.root) as process:
        result, _ = ends_well(process, 400)
    assert result == list(range(100))
    assert case.runs() == Counter(dict.fromkeys(range(100), 1))
    assert case.busiest_minute() <= MOST_CALLS, Counter(name for _, name in case.shims.calls())
    until(lambda: not case.system.queued(), "an empty queue")


def test_qmaster_is_away_for_a_while(case: Case) -> None:
    """Jobs that run then end; the run waits, says why, and goes on by itself."""
    command = case.run("away", 12, "--batch-poll-interval", "2s")  # it asks while nobody answers
    with running(*command, "--gate", str(case.gate), cwd=case.root) as process:
        until(lambda: len(case.runs()) >= 4, "jobs that run")
        case.system.kill("qmaster", signal.SIGTERM)
        case.gate.touch()
        time.sleep(OUTAGE)
        assert process.poll() is None
        case.system.start()
        result, err = ends_well(process)
    assert result == list(range(12))
    assert case.runs() == Counter(dict.fromkeys(range(12), 1))
    assert "gridengine does not answer" in err
    assert "gridengine answers again" in err


def test_a_job_in_error_waits_and_says_why_and_goes_on(case: Case) -> None:
    """A prolog that exits with 100 puts the job in "Eqw" (sge_shepherd(8)); who has mended it clears that."""
    prolog = case.root / "prolog"
    prolog.write_text("#!/bin/sh\nexit 100\n")
    prolog.chmod(0o755)
    ask = case.system.ask
    ask("qconf", "-mattr", "queue", "prolog", str(prolog), "main.q")
    try:
        with running(*case.run("error", 1, "--no-probe", "--batch-poll-interval", "1s"), cwd=case.root) as process:

            def why() -> str:
                return orch("why", "--store", str(case.store), "error", "line", cwd=case.root).stdout

            until(lambda: "Eqw" in why() or process.poll() is not None, "the state")
            until(lambda: "100" in why() or process.poll() is not None, "the reason")
            assert process.poll() is None
            ask("qconf", "-mattr", "queue", "prolog", "NONE", "main.q")
            ask("qmod", "-cj", "*")
            result, err = ends_well(process)
    finally:
        ask("qconf", "-mattr", "queue", "prolog", "NONE", "main.q")
    assert result == [0]
    assert "the batch system holds" in err


def test_a_suspended_job_stops_and_goes_on(case: Case) -> None:
    """It is warned by SIGUSR1 (submit(1), -notify), and all that belongs to it stops (qmod(1), -sj)."""
    flow = case.root / "flow.py"
    ticks, gate = case.root / "ticks", case.gate
    flow.write_text(
        "import orch\n\n\n@orch.workflow\ndef main() -> object:\n    return orch.command(\n"
        f"        ['sh', '-c', 'while ! [ -e {gate} ]; do echo >> {ticks}; sleep 0.05; done'])\n"
    )

    def ticking() -> bool:
        before = ticks.stat().st_size if ticks.exists() else 0
        time.sleep(1.5)
        return ticks.exists() and ticks.stat().st_size > before

    options = ["run", "--adapter", "gridengine", "--store", str(case.store), "--no-probe"]
    with running(*options, str(flow), cwd=case.root) as process:
        until(lambda: ticking() or process.poll() is not None, "a job that runs")
        assert process.poll() is None, process.communicate()
        case.system.ask("qmod", "-sj", "*")
        until(lambda: not ticking(), "it to be suspended")
        assert process.poll() is None
        case.system.ask("qmod", "-usj", "*")
        until(ticking, "it to go on")
        gate.touch()
        process.communicate(timeout=120)
        assert process.returncode == 0


def test_requests_of_the_user_do_not_matter(case: Case) -> None:
    """Default request files (sge_request(5)) may say anything; what orch relies on, it says itself."""
    (case.root / ".sge_request").write_text("-N mine -o /nowhere -j n -sync y -r y -b n -S /bin/false -wd /nowhere\n")
    done = orch(*case.run("request", 3), cwd=case.root, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 1, 2]


def test_several_cores_and_no_parallel_environment(case: Case) -> None:
    """The message says what to do, and which there are."""
    flow = case.root / "flow.py"
    flow.write_text(
        "import orch\n\n@orch.job(cores=2)\ndef wide() -> int:\n    import os\n    return int(os.environ['NSLOTS'])\n\n"
        "@orch.workflow\ndef main() -> int:\n    return wide()\n"
    )
    options = ["run", "--adapter", "gridengine", "--store", case.store, "--quiet", "--no-probe"]
    done = orch(*map(str, options), "--retries", "0", str(flow), cwd=case.root, timeout=240)
    assert done.returncode == 1
    assert "--gridengine-pe NAME (this site has smp)" in done.stderr
    done = orch(*map(str, options), str(flow), cwd=case.root, timeout=240, ORCH_SGE_PE="smp")
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_the_word_count_is_the_same_as_here(case: Case) -> None:
    texts = case.root / "texts"
    texts.mkdir()
    for number in range(12):
        (texts / f"{number}.py").write_text(Path(__file__).read_text() * (number + 1))
    found = []
    for adapter in ("local", "gridengine"):
        options = ["--store", str(case.store), "--quiet", "--adapter", adapter]
        done = orch("run", *options, str(WORDCOUNT), "--root", str(texts), cwd=case.root, timeout=240)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1]
