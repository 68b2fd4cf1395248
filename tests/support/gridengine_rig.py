"""For the kit of adapters: a real Grid Engine, and programs before its own on PATH that make it fail, and count."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from orch.adapters.contract import Adapter
from orch.adapters.registry import make_adapter
from orch.attempt import Reason
from orch.testing.adapter import Rig
from support.real import System, until

PROGRAMS = ("qsub", "qstat", "qacct", "qdel", "qhost", "qconf")

_SHIM = """\
#!/bin/sh
# Stands before {real}. The files in this folder say what is to go wrong.
cd {folder} || exit
echo "$(date +%s.%N) {name}" >> calls
[ -e slow ] && sleep "$(cat slow)"
if [ -e down ]; then echo "error: commlib error: got select error (Connection refused)" >&2; exit 1; fi
if [ -e nonsense ]; then cat nonsense; exit 0; fi
case {name} in
qsub)
    if [ -e refuse ]; then echo "Unable to run job: $(cat refuse)
Exiting." >&2; rm refuse; exit 1; fi
    if [ -e lose ]; then
        how=$(cat lose); rm lose; {real} "$@" > /dev/null 2>&1
        [ "$how" = hang ] && exec sleep 1000
        echo "error: commlib error: got read error (closing connection)" >&2; exit 1
    fi ;;
qstat|qacct)
    if [ -e change ]; then {real} "$@" > "answer.$$"; code=$?
        {python} -I -S {filter} "answer.$$" change; rm "answer.$$"; exit $code
    fi ;;
esac
exec {real} "$@"
"""

_FILTER = r"""
import re, sys
text, (what, task, word) = open(sys.argv[1]).read(), (open(sys.argv[2]).read().split() + ["", ""])[:3]
job, _, index = task.partition(".")
def about(block):
    number = re.search(r"(?:<JB_job_number>|jobnumber +)(\d+)", block)
    part = re.search(r"(?:<tasks>|taskid +)(\d+)", block)
    return number and number[1] == job and (not index or (part and part[1] == index))
def changed(match):
    block = match[0]
    if what == "twice":
        return block + block
    if not about(block):
        return block
    return "" if what == "forget" else re.sub("<state>.*</state>", f"<state>{word}</state>", block)
print(re.sub(r"(?s)<job_list .*?</job_list>|^=====.*?(?=^=====|\Z)", changed, text, flags=re.M), end="")
"""


class Shims:
    """Programs with the names of Grid Engine's, in a folder that is to be put on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "filter.py").write_text(_FILTER)
        for name in PROGRAMS:
            real = shutil.which(name)
            assert real is not None
            words = {"real": real, "folder": str(folder), "python": sys.executable, "filter": str(folder / "filter.py")}
            path = folder / name
            path.write_text(_SHIM.format(name=name, **{key: shlex.quote(word) for key, word in words.items()}))
            path.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH with them."""
        return f"{self.folder}:{os.environ['PATH']}"

    def calls(self) -> list[tuple[float, str]]:
        """What was called when (seconds since 1970)."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "calls").read_text().splitlines()
            return [(float(when), name) for when, name in map(str.split, lines)]
        return []

    def set(self, name: str, text: str | None) -> None:
        """Switch something on, or off (None). It is there at once and whole."""
        path = self.folder / name
        if text is None:
            path.unlink(missing_ok=True)
        else:
            (self.folder / "draft").write_text(text)
            (self.folder / "draft").rename(path)


class GridEngine(System):
    """qmaster, and one execd."""

    def ask(self, *argv: str) -> str:
        """What one of its programs says, the real one. That it fails is nothing."""
        path = os.environ | self.variables()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=path)
        return done.stdout.strip()

    def queued(self) -> list[str]:
        """What waits or runs."""
        return self.ask("qstat", "-u", "*", "-s", "prs").splitlines()[2:]

    def idle(self) -> None:
        """End whatever is there, and wait for it."""
        if self.queued():
            self.ask("qdel", "-u", "*")
            until(lambda: not self.queued(), "an empty queue", 60)

    def lose(self, task: str) -> None:
        """The host of a task goes down with it, and comes up again; other tasks stay, for there is one host only."""
        place = (
            self.directory / "spool" / "execd" / "localhost" / "active_jobs" / (task if "." in task else f"{task}.1")
        )
        pids = [int((place / name).read_text()) for name in ("pid", "job_pid")]
        self.kill("execd")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.start()


class GridEngineRig(Rig):
    """What Grid Engine itself can do to jobs, it does."""

    patience = 60.0
    many = 60
    accept: ClassVar[dict[str, set[Reason]]] = {"cancelled outside": {Reason.MISSING}}  # no record of one that waits
    cannot: ClassVar[dict[str, str]] = {"preempt": "Grid Engine suspends what has to give way, and never ends it"}

    def __init__(self, root: Path, system: GridEngine) -> None:
        super().__init__(root)
        self.system = system
        self.shims = Shims(root / "shims")
        self.options = {
            "batch-poll-interval": "0.5s",
            "batch-missing-after": "2s",
            "batch-call-timeout": "5s",
            "batch-probe": "false",
            "gridengine-pe": "smp",
        }
        system.idle()

    def close(self) -> None:
        """Its jobs are over."""
        self.hold(hold=False)
        self.system.idle()

    def adapter(self) -> Adapter:
        """With the shims on PATH."""
        return make_adapter("gridengine")

    def left(self) -> list[str]:
        """What is in the queue."""
        return self.system.queued()

    def cancel_outside(self, external: str) -> None:
        """As anybody would."""
        self.system.ask("qdel", external)

    def forget(self, external: str) -> None:
        """Neither in the queue nor in the records. One that waits is taken away first."""
        if not self._runs(external):
            self.system.ask("qdel", external)
        self.shims.set("change", f"forget {external}")

    def _runs(self, external: str, states: str = "rt") -> bool:
        job, _, index = external.partition(".")
        rows = [line.split() for line in self.system.queued()]
        return any(row[0] == job and row[4] in states and (not index or row[-1] == index) for row in rows)

    def down(self, *, down: bool) -> None:
        """What the commands say when nobody listens."""
        self.shims.set("down", "" if down else None)

    def slow(self, seconds: float) -> None:
        """Each command takes longer."""
        self.shims.set("slow", f"{seconds}" if seconds else None)

    def nonsense(self, text: str) -> None:
        """Each command prints this."""
        self.shims.set("nonsense", text or None)

    def strange(self, external: str, word: str) -> None:
        """In the place of the state."""
        self.shims.set("change", f"strange {external} {word}" if word else None)

    def twice(self, *, twice: bool) -> None:
        """Each job."""
        self.shims.set("change", "twice" if twice else None)

    def lose_answer(self, how: str) -> None:
        """Of the next qsub."""
        self.shims.set("lose", how)

    def refuse(self, text: str) -> None:
        """The next qsub."""
        self.shims.set("refuse", text)

    def hold(self, *, hold: bool) -> None:
        """The queue is closed: what runs goes on."""
        self.system.ask("qmod", "-d" if hold else "-e", "main.q")

    def lose_node(self, external: str, pid: int) -> None:
        """As after a power cut. Of one that qmaster takes for not begun yet, it hears after a minute only."""
        until(lambda: self._runs(external, "r"), f"qmaster to say that {external} runs")
        self.system.lose(external)

    def start_again(self, external: str) -> None:
        """Rescheduled by hand, although it has said that it does not want that."""
        self.system.ask("qalter", "-r", "y", external.partition(".")[0])
        self.system.ask("qmod", "-rj", external)
