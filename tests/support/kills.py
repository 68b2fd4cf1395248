"""Runs of `tests/flows/mixed.py` that are sabotaged, carried on, and looked at."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flows import mixed

from orch.agent import paths, processes
from orch.agent.tags import agent_name
from orch.bus.events import Added, Event, Failed, Retrying, Running, Succeeded
from orch.bus.reader import read
from orch.history import fold_quickly
from orch.state.law import JobState
from orch.testing.states import check as check_state
from orch.work.surroundings import scratch_name
from support.command import log_directory, orch
from support.saboteur import agent_of

SABOTEUR = [sys.executable, "-P", str(Path(__file__).parent / "saboteur.py")]
FLOW = Path(__file__).parent.parent / "flows" / "mixed.py"
FAULTY = Path(__file__).parent / "faulty"
"""For PYTHONPATH: see its `sitecustomize`."""

NIGHTLY = os.environ.get("ORCH_NIGHTLY") == "1"
"""Every boundary for everybody, instead of a sample."""

PATIENCE = 60


@dataclasses.dataclass
class Case:
    """One run in a store of its own or shared: what is done to it, and what is expected of it afterwards."""

    place: Path
    run: str
    seconds: float = 0.0
    flow: Path = FLOW

    @property
    def store(self) -> Path:
        return self.place / "s"

    @property
    def log(self) -> Path:
        return log_directory(self.store, self.run)

    @property
    def counts(self) -> Path:
        return self.place / f"counts-{self.run}"

    def sabotage(self, **plan: Any) -> list[str]:
        """The words before a command's own."""
        return [*SABOTEUR, json.dumps({"store": str(self.store), "run": self.run, **plan})]

    def begin(self, *options: str) -> list[str]:
        """A command line that begins the run."""
        self.counts.mkdir(parents=True, exist_ok=True)
        own = ["--quiet", "--run-id", self.run, "--store", str(self.store), *options]
        return ["run", *own, str(self.flow), "--where", str(self.counts), *self.arguments()]

    def arguments(self) -> list[str]:
        """More of the flow's own options."""
        return ["--seconds", str(self.seconds)]

    def carry_on(self, *options: str) -> list[str]:
        """A command line that carries it on."""
        return ["replay", self.run, "--restart", "--quiet", "--store", str(self.store), *options]

    def call(self, words: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command line of which `sabotage` has made the beginning."""
        return subprocess.run(
            words,
            cwd=self.place,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def finish(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Carry the run on to its end with a leader that nobody sabotages. What was committed stays as it was."""
        before = list(read(self.log)) if self.log.is_dir() else []
        if not before or fold_quickly(self.log).planned is None:
            return self._begin_again()
        done = orch(*self.carry_on(*options), cwd=self.place)
        assert list(read(self.log))[: len(before)] == before, "what was committed has changed"
        return done

    def _begin_again(self) -> subprocess.CompletedProcess[str]:
        """Killed before there was a run, it has to be deleted, and begun anew. None of its bodies may have run."""
        if (self.store / "runs" / self.run).exists():
            assert not list(self.counts.iterdir())
            refused = orch(*self.carry_on(), cwd=self.place)
            assert refused.returncode == 2, refused.stderr
            cleaned = orch("clean", "--yes", self.run, "--store", self.store, cwd=self.place)
            assert cleaned.returncode == 0, cleaned.stderr
        return orch(*self.begin(), cwd=self.place)

    def executions(self) -> Counter[str]:
        """How often each body ran to its end."""
        return Counter({path.name: len(path.read_text().splitlines()) for path in self.counts.iterdir()})

    def events(self) -> list[Event]:
        """All of the run's."""
        return list(read(self.log))

    def check(self, done: subprocess.CompletedProcess[str]) -> None:
        """The result is right, nothing was lost, nothing ran again without need, and nothing is left behind."""
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == mixed.EXPECTED
        events = self.events()
        commits = Counter(event.job for event in events if isinstance(event, Succeeded))
        assert set(commits.values()) == {1}, "a job commits once"
        self.check_bodies(events)
        state = fold_quickly(self.log)
        check_state(state)
        assert state.outcome == "succeeded"
        assert {row.state for row in state.jobs.values()} == {JobState.DONE}
        self.check_leftovers(events)

    def check_bodies(self, events: list[Event]) -> None:
        """Each body ran to its end; and again only where the log says that the attempt was lost, or killed."""
        ran = self.executions()
        assert ran.keys() == mixed.BODIES
        kinds = {event.job: event.kind for event in events if isinstance(event, Added)}
        again = Counter(kinds[event.job] for event in events if isinstance(event, Retrying | Failed))
        again["flaky"] -= 1  # has failed, as it should
        more = Counter({kind: sum(ran[name] - 1 for name in names) for kind, names in mixed.KINDS.items()})
        assert more <= again, f"ran again: {more}; the log has: {again}"

    def check_leftovers(self, events: list[Event]) -> None:
        """Neither scratch directories nor processes."""
        keys = {f"{self.run}.{event.job}.{event.attempt}" for event in events if isinstance(event, Running)}
        runtime = Path(paths.read_pointer(str(self.store)))
        scratch = set(os.listdir(runtime / "scratch")) if runtime.is_dir() else set()
        assert not scratch & {scratch_name(key) for key in keys}
        assert not self.processes(), "processes of the run are left"

    def processes(self) -> list[int]:
        """Those of attempts of this run that live."""
        mark = f"{agent_name(str(self.store), paths.host_name())}:{self.run}."
        return [pid for pid in processes.marked(mark) if not processes.is_zombie(pid)]


def guardian_of(agent: int) -> int:
    """The pid of an agent's parent, which ends once nothing of the agent is left; 0 if that is not ours."""
    with contextlib.suppress(OSError):
        parent = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
        if b"orch.agent" in Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0"):
            return parent
    return 0


def end_agent(store: Path) -> None:
    """End the agent of a store, and see that nothing of it is left."""
    agent = agent_of(str(store))
    guardian = guardian_of(agent) if agent else 0
    if guardian:
        descriptor = os.pidfd_open(guardian)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        _gone(descriptor)
    name = agent_name(str(store), paths.host_name())
    left = [pid for pid in processes.marked(f"{name}:") if not processes.is_zombie(pid)]
    assert not left, f"processes of the agent are left: {left}"
    assert "Traceback" not in agent_log(store), agent_log(store)


def agent_log(store: Path) -> str:
    """What the agent of a store has had to say."""
    path = Path(paths.agent_directory(str(store))) / "agent.log"
    return path.read_text() if path.exists() else ""


def _gone(descriptor: int) -> None:
    with os.fdopen(descriptor) as held:
        poll = select.poll()
        poll.register(held.fileno(), select.POLLIN)  # readable once the process has ended (pidfd_open(2))
        assert poll.poll(PATIENCE * 1000), "it does not end"


@contextlib.contextmanager
def agent_ends(store: Path) -> Iterator[None]:
    """At the end of the block the agent of the store is ended."""
    try:
        yield
    finally:
        if store.is_dir():
            end_agent(store)
