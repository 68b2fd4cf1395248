"""For tests of workers: a store with orders in it, and worker processes as a batch system would start them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from orch.agent import processes
from orch.attempt import Attempt, Note, Outcome
from orch.environment import packed
from orch.store.file import FileStore
from orch.worker.spool import Header, Spool, Ticket
from support.agents import PATIENCE, TESTS, View

RUN = "run"


@dataclasses.dataclass
class Shelf:
    """What `View` needs of a lab to make attempts and to look at outcomes."""

    store: FileStore


class Batch(View):
    """A run whose attempts are orders. `login`: the environment that a batch system gives to a worker."""

    def __init__(self, root: Path, run: str = RUN) -> None:
        self.root = root
        self.store = FileStore(root / "store")
        self.store.create()
        self.lab = Shelf(self.store)  # type: ignore[assignment] # all that is used of it here
        self.run = run
        self.job = 0
        self.epoch = 1
        self.tmp = root / "tmp"
        self.tmp.mkdir()
        self.spool = Spool(str(self.store.root), run)
        self.spool.make()
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "GIVEN": "by the run"}
        self.login: dict[str, str] = {"PATH": os.defpath, "TMPDIR": str(self.tmp), "HOME": str(root)}
        self.workers: list[subprocess.Popen[bytes]] = []
        self._submissions = 0

    def order(self, *attempts: Attempt, **changes: Any) -> str:
        """Write a submission; its name."""
        self._submissions += 1
        name = f"{self.epoch}-{self._submissions}"
        header = Header(
            run=self.run,
            epoch=self.epoch,
            name=f"orch-{name}",
            store=str(self.store.root),
            made=time.time(),
            python_path=[str(TESTS)],
        )
        self.spool.write_environment(self.epoch, packed(self.environment))
        self.spool.write_orders(name, msgspec.structs.replace(header, **changes), attempts)
        return name

    def start(self, submission: str, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """What a batch system does on a node, in a session of its own."""
        argv = [sys.executable, "-P", "-m", "orch.worker", str(self.store.root), self.run, submission, *(words or "1")]
        worker = subprocess.Popen(
            argv,
            env={**self.login, **(env or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.workers.append(worker)
        return worker

    def run_here(self, attempt: Attempt, **changes: Any) -> Outcome:
        """Have a worker run it, and read what it has left."""
        submission = self.order(attempt, **changes)
        code, said = ended(self.start(submission))
        assert (code, said) == (0, "")
        return self.outcome_of(submission)

    def outcome_of(self, submission: str, task: int = 1) -> Outcome:
        """What a task has left."""
        found = self.spool.outcome(Ticket(submission, task))
        assert found is not None
        return found

    def notes_of(self, submission: str, task: int = 1) -> list[Note]:
        """What a task has said, in order."""
        ticket = Ticket(submission, task)
        names = [each for each in self.spool.news() if each.startswith(f"{ticket}.") and each.endswith(".notes")]
        return [note for name in sorted(names) for note in self.spool.notes(name)]

    def marked(self) -> list[int]:
        """Processes of attempts and templates of this batch's workers that live."""
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        root = os.fsencode(self.root)
        return [pid for pid in found if root in _environment(pid) and not processes.is_zombie(pid)]

    def left_on_node(self) -> list[str]:
        """What workers have left on their node."""
        return [str(path.relative_to(self.tmp)) for path in self.tmp.rglob("*")]

    def end(self) -> None:
        """See that nothing is left."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(PATIENCE)
            if worker.stderr is not None:
                worker.stderr.close()
        until(lambda: not self.marked())


def ended(worker: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code of a worker, and what it has said."""
    said = worker.communicate(timeout=PATIENCE)[1]
    return worker.returncode, said.decode()


def until(true: Callable[[], object]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def kinds(notes: Sequence[Note]) -> list[str]:
    """Of which kinds they are."""
    return [each.kind for each in notes]


def children_of(pid: int) -> list[int]:
    """The children of a process that are not zombies."""
    return [each for each in processes.children(pid) if not processes.is_zombie(each)]
