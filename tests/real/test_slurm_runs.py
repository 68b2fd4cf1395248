"""Runs on a real Slurm: how often it is asked, and what becomes of them when leaders, slurmctld and nodes go."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from support.command import orch, running
from support.kills import NIGHTLY
from support.real import Slurm, until
from support.slurm_rig import Shims

FLOW = Path(__file__).parents[1] / "flows" / "many_lines.py"
WORDCOUNT = Path(__file__).parents[2] / "examples" / "wordcount.py"

MOST_CALLS = 30
"""A minute, of all of Slurm's programs together."""

OUTAGE = 60 if NIGHTLY else 20
"""Seconds for which slurmctld is away."""

MANY = 500 if NIGHTLY else 120


SURROUNDINGS = """
import os
import orch

@orch.job
def surroundings(names: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}

@orch.workflow
def main(names: str) -> dict[str, str | None]:
    return surroundings(names.split())
"""

HELD = """
import orch

@orch.job(queue="short", walltime="1h")
def long() -> int:
    return 1

@orch.workflow
def main() -> int:
    return long()
"""


class Case:
    """A folder with a store, and where the jobs of a run note that they run."""

    def __init__(self, root: Path, slurm: Slurm) -> None:
        slurm.idle()
        self.slurm = slurm
        self.root = root
        self.store = root / "store"
        self.ran = root / "ran"
        self.ran.mkdir()
        self.gate = root / "gate"
        self.shims = Shims(root / "shims")

    def run(self, run: str, jobs: int, *more: str) -> list[str]:
        """The arguments of `orch`."""
        options = ["--adapter", "slurm", "--store", str(self.store), "--run-id", run]
        return ["run", *options, *more, str(FLOW), "--folder", str(self.ran), "--jobs", str(jobs)]

    def runs(self) -> Counter[int]:
        """How often each job has begun."""
        return Counter({int(path.suffix[1:]): len(path.read_text().split()) for path in self.ran.iterdir()})

    def where(self) -> dict[int, list[str]]:
        """On which nodes."""
        return {int(path.suffix[1:]): path.read_text().split() for path in self.ran.iterdir()}

    def busiest_minute(self) -> int:
        """How many calls there were within 60 seconds, at most."""
        times = sorted(when for when, _ in self.shims.calls())
        return max(sum(when <= each < when + 60 for each in times) for when in times)


@pytest.fixture
def case(tmp_path: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Case:
    case = Case(tmp_path, slurm)
    monkeypatch.setenv("PATH", case.shims.path)
    return case


def ends_well(process: subprocess.Popen[str], within: float = 240) -> tuple[object, str]:
    """The run's value, and what it has written to stderr."""
    out, err = process.communicate(timeout=within)
    assert process.returncode == 0, err
    return json.loads(out), err


@pytest.mark.timeout(600)
def test_many_jobs_through_arrays_and_the_leader_dies_on_the_way(case: Case) -> None:
    """Few calls; nothing runs twice, and nothing is lost."""
    with running(*case.run("many", MANY), cwd=case.root) as process:
        until(lambda: len(case.runs()) > MANY // 4 or process.poll() is not None, "a quarter of the jobs", 200)
        process.send_signal(signal.SIGKILL)
        process.wait()
    begun = len(case.runs())
    assert MANY // 4 < begun < MANY, "it was killed in the middle"
    with running("replay", "many", "--restart", "--store", case.store, cwd=case.root) as process:
        value, _ = ends_well(process, 400)
    assert value == list(range(MANY))
    assert case.runs() == Counter(dict.fromkeys(range(MANY), 1))
    assert case.busiest_minute() <= MOST_CALLS, Counter(name for _, name in case.shims.calls())
    assert case.slurm.ask("squeue", "-h") == ""


def test_slurmctld_is_away_for_a_while(case: Case) -> None:
    """Jobs that run then end; the run waits, says why, and goes on by itself."""
    words = case.run("away", 20, "--batch-poll-interval", "2s", "--batch-call-timeout", "4s")
    with running(*words, "--gate", str(case.gate), cwd=case.root) as process:
        until(lambda: len(case.runs()) >= 8, "jobs that run")
        case.slurm.kill("slurmctld", signal.SIGTERM)
        case.gate.touch()
        time.sleep(OUTAGE)
        assert process.poll() is None
        case.slurm.start()
        value, err = ends_well(process)
    assert value == list(range(20))
    assert case.runs() == Counter(dict.fromkeys(range(20), 1))
    assert "slurm does not answer" in err
    assert "slurm answers again" in err


def test_a_node_dies(case: Case) -> None:
    """Its jobs run elsewhere, and only those run twice."""
    with running(*case.run("node", 16), "--gate", str(case.gate), cwd=case.root) as process:
        until(lambda: "n3" in {node for nodes in case.where().values() for node in nodes}, "jobs on the node n3")
        until(lambda: len(case.runs()) >= 10, "jobs that run")
        lost = die(case.slurm, "n3")
        there = {number for number, nodes in case.where().items() if nodes == ["n3"]}
        case.gate.touch()
        value, _ = ends_well(process)
    assert lost
    assert value == list(range(16))
    assert {number for number, count in case.runs().items() if count == 2} == there
    assert all(case.where()[number][1] in {"n1", "n2"} for number in there)


def die(slurm: Slurm, node: str) -> int:
    """The daemon of a node, and all that runs there, at once; how many processes of jobs."""
    slurm.kill(f"slurmd-{node}")
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and belongs(entry, node)]
    steps = {step for step in map(step_of, processes) if step}  # else they would tell slurmctld
    for pid in (*steps, *processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(processes)


def belongs(entry: Path, node: str) -> bool:
    """Is a process of a job on this node of this cluster?"""
    wanted = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={os.environ['SLURM_CONF']}".encode()}
    with contextlib.suppress(OSError):
        return wanted <= set((entry / "environ").read_bytes().split(b"\0"))
    return False


def step_of(pid: int) -> int:
    """The slurmstepd above a process."""
    while pid > 1:
        try:
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            return 0
        if name == "slurmstepd":
            return pid
        pid = int(rest.split()[1])
    return 0


def test_the_word_count_is_the_same_as_here(case: Case) -> None:
    options: list[str | Path] = ["--store", case.store, "--quiet"]
    texts = case.root / "texts"
    texts.mkdir()
    for number in range(12):
        (texts / f"{number}.py").write_text(Path(__file__).read_text() * (number + 1))
    found = []
    for adapter in ("local", "slurm"):
        done = orch("run", *options, "--adapter", adapter, WORDCOUNT, "--root", texts, cwd=case.root, timeout=240)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1]


def test_another_login_environment_does_not_matter(case: Case) -> None:
    """Jobs have the leader's environment, and nothing of an outer job's."""
    home = case.root / "home"
    home.mkdir()
    for name in (".profile", ".bashrc", ".bash_profile"):
        (home / name).write_text("export PATH=/nowhere PYTHONPATH=/nowhere FROM_LOGIN=1\nexit 1\n")
    flow = case.root / "flow.py"
    flow.write_text(SURROUNDINGS)
    names = ["FROM_LEADER", "FROM_LOGIN", "SET", "SLURM_ARRAY_JOB_ID", "SLURM_GET_USER_ENV", "PATH"]
    done = orch(
        "run", "--adapter", "slurm", "--store", case.store, "--quiet", "--set-env", "SET=a 'b' ü,c",
        flow, "--names", " ".join(names), cwd=case.root, HOME=str(home), FROM_LEADER="yes",
        SLURM_ARRAY_JOB_ID="77", SLURM_JOB_ID="78", SLURM_MEM_PER_CPU="1", SBATCH_WAIT="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "FROM_LEADER": "yes",
        "FROM_LOGIN": None,
        "SET": "a 'b' ü,c",
        "SLURM_ARRAY_JOB_ID": None,
        "SLURM_GET_USER_ENV": None,
        "PATH": os.environ["PATH"],
    }


def test_a_reason_that_never_passes_is_said(case: Case) -> None:
    """The job asks for more time than its partition gives; `why` has Slurm's word for it."""
    flow = case.root / "flow.py"
    flow.write_text(HELD)
    options = ["--store", str(case.store), "--run-id", "held"]
    with running("run", "--adapter", "slurm", *options, str(flow), cwd=case.root) as process:

        def why() -> str:
            return orch("why", *options[:2], "held", "long", cwd=case.root).stdout

        until(lambda: "PartitionTimeLimit" in why() or process.poll() is not None, "the reason")
        assert process.poll() is None
        assert orch("cancel", *options[:2], "held", cwd=case.root).returncode == 0
        process.wait(60)
    until(lambda: not case.slurm.ask("squeue", "-h"), "an empty queue")
