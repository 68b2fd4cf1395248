"""The leader with very many jobs, and an adapter that does nothing: python benchmarks/scale.py [--json] SIZE …

For each size, in processes of their own: CPU time a job, from the durable plan to the end; the peak of the leader's
memory; bytes of log; a cold replay; and how long it takes to carry the run on after SIGKILL shortly before its end.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from report import Row, scratch, show

from orch.adapters.contract import Capacity
from orch.adapters.null import NullAdapter, NullSession, succeed
from orch.api import Orchestrator
from orch.attempt import Attempt
from orch.bundle import Source
from orch.cli.common import RARELY
from orch.history import log_directory, replay_state

FLOW = Path(__file__).parent / "flow_noop.py"
PATIENCE = 3600
"""Seconds for each process."""

PLACES = Capacity(cores=64, memory=1 << 40, disk=1 << 40, ahead=1024)
LEFT = 1000
"""Jobs that are left when the run is killed."""


class Stuck(NullAdapter):
    """Finishes so many attempts; what comes then stays as it is."""

    def __init__(self, attempts: int) -> None:
        super().__init__(succeed, PLACES)
        self.left = attempts

    async def open(self, info: Any) -> NullSession:
        """Connect a run."""
        session = await super().open(info)
        finish = session.submit

        async def submit(attempts: Any) -> None:
            some: list[Attempt] = list(attempts)[: self.left]
            self.left -= len(some)
            await finish(some)
            if not self.left:
                print("{}", flush=True)

        session.submit = submit  # type: ignore[method-assign] # of this one session
        return session


async def lead(store: Path, jobs: int, adapter: NullAdapter) -> dict[str, float]:
    """A whole run: what it costs once it is planned."""
    gc.set_threshold(*RARELY)  # as orch run does
    async with Orchestrator(store, adapter) as orchestrator:
        began = time.perf_counter()
        run = await orchestrator.start(Source.file(FLOW), argv=["--count", str(jobs)], run_id="run")
        planned, cpu = time.perf_counter(), time.process_time()
        await run.wait()
        run.check_outcome()
        spent, wall = time.process_time() - cpu, time.perf_counter() - planned
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"plan": planned - began, "cpu": spent, "wall": wall, "peak": peak}


async def carry_on(store: Path) -> dict[str, float]:
    """Seconds until the run can go on, and until it has ended; what there is to do then is little."""
    began, cpu = time.perf_counter(), time.process_time()
    gc.set_threshold(*RARELY)  # as orch run does
    async with Orchestrator(store, NullAdapter(succeed, PLACES)) as orchestrator:
        run = await orchestrator.resume("run")
        ready, spent = time.perf_counter() - began, time.process_time() - cpu
        await run.wait()
        run.check_outcome()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ready": ready, "cpu": spent, "wall": time.perf_counter() - began, "peak": peak}


def replay(store: Path) -> dict[str, float]:
    """Seconds, events and bytes of the log."""
    log = log_directory(store, "run")
    began, cpu = time.perf_counter(), time.process_time()
    state = replay_state(log)
    return {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "events": state.seq,
        "bytes": sum(f.stat().st_size for f in log.iterdir()),
    }


def step(name: str, store: Path, jobs: int) -> dict[str, float]:
    """One of the above, in this process."""
    if name == "lead":
        return anyio.run(lead, store, jobs, NullAdapter(succeed, PLACES))
    if name == "stuck":
        return anyio.run(lead, store, jobs, Stuck(max(1, jobs - LEFT)))
    return anyio.run(carry_on, store) if name == "resume" else replay(store)


def in_process(name: str, store: Path, jobs: int) -> dict[str, float]:
    """The same in a process of its own, which is killed once it has said something."""
    command = [sys.executable, __file__, "--step", name, "--store", str(store), str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if name == "stuck" or not line:
            process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.stdout.close()
    if not line:
        raise SystemExit(f"{name} with {jobs:,} jobs failed: see above")
    found: dict[str, float] = json.loads(line)
    return found


def measure(size: int) -> Iterator[Row]:
    """All rows of one size."""
    label = f"{size:,} jobs"
    with scratch() as place:
        led = in_process("lead", place / "whole", size)
        yield Row(f"{label}: CPU a job", led["cpu"] / size * 1e6, "µs", "<= 100", f"{size / led['wall']:,.0f} jobs/s")
        yield Row(f"{label}: plan", led["plan"], "s", "", "from start to the durable plan")
        yield Row(f"{label}: peak memory of the leader", led["peak"] / 2**20, "MiB", "<= 500")
        replayed = in_process("replay", place / "whole", size)
        yield Row(f"{label}: log", replayed["bytes"] / size, "bytes/job", "<= 1000")
        rate = replayed["events"] / replayed["cpu"]
        yield Row(f"{label}: replay", rate, "events/s", ">= 500000", f"of CPU time; took {replayed['wall']:.2f} s")
    with scratch() as place:
        in_process("stuck", place / "killed", size)
        resumed = in_process("resume", place / "killed", size)
        note = f"until it leads; {resumed['cpu']:.2f} s of CPU time"
        yield Row(f"{label}: restart after SIGKILL", resumed["ready"], "s", "<= 5", note)
        yield Row(
            f"{label}: … to the end of the run", resumed["wall"], "s", "", f"{min(LEFT, size - 1):,} jobs were left"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print a JSON array of results")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], metavar="SIZE")
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, options.store, options.sizes[0])), flush=True)
        return
    rows = []
    for size in options.sizes:
        for row in measure(size):
            rows.append(row)
            if not options.json:
                print(show([row]).splitlines()[1], file=sys.stderr, flush=True)
    print(json.dumps([dataclasses.asdict(row) for row in rows]) if options.json else show(rows))
    print(f"load: {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
