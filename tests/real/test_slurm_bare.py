"""A Slurm without accounting, without cgroups, and with a short memory; and what the other one says in its place."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import orch, running
from support.real import Slurm, free_ports, until

from orch.adapters.batch.dialect import Answer, Command, Order, Seen, Stage
from orch.adapters.slurm.dialect import Slurm as Dialect
from orch.attempt import Reason

FLOW = Path(__file__).parents[1] / "flows" / "many_lines.py"

AGE = 5
"""Seconds for which it knows of what is over."""


@pytest.fixture(scope="module")
def bare(place: Path, slurm: Slurm) -> Iterator[Slurm]:  # noqa: ARG001 - see below
    """One node. `slurm` comes first, so that it has its own environment again afterwards."""
    settings = {"SLURM_DBD": "0", "SLURM_CGROUP": "none", "SLURM_AGE": str(AGE)}
    system = Slurm(place / "bare", nodes=1, port=free_ports(4), **settings)
    with system.running():
        yield system


class ByHand:
    """The dialect's commands, called one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dialect = Dialect({}, os.environ)
        self.since = time.time()
        self.count = 0

    def call(self, command: Command) -> Answer:
        changed = {**os.environ, **command.env}
        env = {name: value for name, value in changed.items() if value is not None}
        done = subprocess.run(command.argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        return Answer(command, done.returncode, done.stdout, done.stderr)

    def submit(self, script: str, memory: int = 0, log: str = "") -> str:
        self.count += 1
        path = self.root / f"{self.count}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        order = Order(
            name=f"o-byhand-{self.root.name}-{self.count}",
            label="by hand",
            size=1,
            script=str(path),
            log=log or str(self.root / "{index} ü%d.log"),
            memory=memory,
        )
        return self.dialect.submitted(order, self.call(self.dialect.submit(order)))

    def seen(self, job: str) -> Seen | None:
        return self.dialect.seen([self.call(each) for each in self.dialect.look([job])]).get(job)

    def recalled(self, job: str) -> Seen | None:
        return self.dialect.recalled([self.call(each) for each in self.dialect.recall([job], self.since)]).get(job)

    def over(self, job: str) -> Seen:
        """Wait until squeue has its end."""

        def ended() -> bool:
            seen = self.seen(job)
            return seen is not None and seen.stage is Stage.OVER

        until(ended, f"the end of {job}")
        seen = self.seen(job)
        assert seen is not None
        return seen

    def recorded(self, job: str) -> Reason:
        """Wait until sacct has its end."""
        until(lambda: self.recalled(job), f"sacct to know {job}")
        seen = self.recalled(job)
        assert seen is not None
        assert seen.end is not None
        return seen.end.reason


EAT = "exec python3 -c 'import time; x = bytearray(400 << 20); time.sleep(20)'"


@pytest.mark.usefixtures("slurm")
def test_the_same_ends_in_squeue_and_sacct(tmp_path: Path) -> None:
    hand = ByHand(tmp_path)
    jobs = {
        "ok": hand.submit("true"),
        "three": hand.submit("exit 3"),
        "killed": hand.submit("kill -9 $$"),
        "memory": hand.submit(EAT, memory=64 << 20),
        "log": hand.submit("true", log="/nowhere/at/all.log"),
    }
    wanted = {
        "ok": (Reason.FINISHED, 0, 0),
        "three": (Reason.FAILED, 3, 0),
        "killed": (Reason.FAILED, None, 9),
        "memory": (Reason.MEMLIMIT, None, 0),
        "log": (Reason.ERROR, None, 0),
    }
    for name, job in jobs.items():
        end = hand.over(job).end
        assert end is not None
        assert (end.reason, end.exit_code, end.signal) == wanted[name], end
        assert hand.recorded(job) is end.reason


@pytest.mark.usefixtures("bare")
def test_what_is_over_is_forgotten_and_nobody_has_a_record(tmp_path: Path) -> None:
    """That is no answer, and no trouble."""
    hand = ByHand(tmp_path)
    job = hand.submit("exit 3")
    assert hand.over(job).word == "FAILED"
    until(lambda: hand.seen(job) is None, "it to be forgotten", 120)
    assert hand.recalled(job) is None
    name = f"o-byhand-{tmp_path.name}-1"
    commands = hand.dialect.search([name], hand.since)
    assert hand.dialect.found([name], [hand.call(each) for each in commands]) == {}


@pytest.mark.usefixtures("bare")
def test_too_much_memory_without_cgroups(tmp_path: Path) -> None:
    """Slurm polls, and kills; what it calls that differs."""
    hand = ByHand(tmp_path)
    end = hand.over(hand.submit(EAT, memory=64 << 20)).end
    assert end is not None
    assert end.reason is Reason.MEMLIMIT or (end.reason is Reason.FAILED and end.signal == 9), end


def test_a_run_there(bare: Slurm, tmp_path: Path) -> None:
    """A leader that comes when Slurm has long forgotten its jobs still has their outcomes."""
    (tmp_path / "ran").mkdir()
    gate = tmp_path / "gate"
    words = ["--adapter", "slurm", "--store", str(tmp_path / "store"), "--run-id", "bare", "--no-probe"]
    more = ["--folder", str(tmp_path / "ran"), "--jobs", "3", "--gate", str(gate)]
    with running("run", *words, str(FLOW), *more, cwd=tmp_path) as process:
        until(lambda: len(list((tmp_path / "ran").iterdir())) == 3 or process.poll() is not None, "jobs that run")
        process.kill()
        process.wait()
    gate.touch()
    until(lambda: not bare.ask("squeue", "-h", "-t", "all"), "Slurm to forget all of it", 120)
    done = orch("replay", "bare", "--restart", "--store", tmp_path / "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.read_text().count("\n") for path in (tmp_path / "ran").iterdir()} == {1}
