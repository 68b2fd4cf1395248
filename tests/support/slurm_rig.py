"""For the kit of adapters: a real Slurm, and programs before its own on PATH that make it fail and count calls."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from orch.adapters.contract import Adapter
from orch.adapters.registry import make_adapter
from orch.testing.adapter import Rig
from support.real import Slurm, until

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol")

_SHIM = """\
#!/bin/sh
# Stands before {real}. The files in this folder say what is to go wrong.
cd {folder} || exit
echo "$(date +%s.%N) {name}" >> calls
[ -e slow ] && sleep "$(cat slow)"
if [ -e down ]; then echo "{name}: error: Unable to contact slurm controller (connect failure)" >&2; exit 1; fi
if [ -e nonsense ]; then cat nonsense; exit 0; fi
case {name} in
sbatch)
    if [ -e refuse ]; then
        echo "sbatch: error: Batch job submission failed: $(cat refuse)" >&2; rm refuse; exit 1
    fi
    if [ -e lose ]; then
        how=$(cat lose); rm lose; {real} "$@" > /dev/null 2>&1
        [ "$how" = hang ] && exec sleep 1000
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1
    fi ;;
squeue|sacct)
    if [ -e change.sed ] || [ -e twice ]; then
        {real} "$@" > "answer.$$"; code=$?
        [ -e change.sed ] && sed -E -i -f change.sed "answer.$$"
        cat "answer.$$"; [ -e twice ] && cat "answer.$$"; rm "answer.$$"; exit $code
    fi ;;
esac
exec {real} "$@"
"""


class Shims:
    """Programs with the names of Slurm's, in a folder that is to be put on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in PROGRAMS:
            real = shutil.which(name)
            assert real is not None
            path = folder / name
            path.write_text(_SHIM.format(real=real, folder=shlex.quote(str(folder)), name=name))
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


class SlurmRig(Rig):
    """Jobs go to a partition from which they can be preempted. What Slurm itself can do to them, it does."""

    patience = 60.0
    many = 60

    def __init__(self, root: Path, slurm: Slurm) -> None:
        super().__init__(root)
        self.slurm = slurm
        self.shims = Shims(root / "shims")
        self.options = {
            "batch-poll-interval": "0.5s",
            "batch-missing-after": "2s",
            "batch-call-timeout": "5s",
            "batch-probe": "false",
            "slurm-partition": "spare",
        }
        slurm.idle()

    def close(self) -> None:
        """Its jobs are over, its nodes are up."""
        self.hold(hold=False)
        self.slurm.idle()

    def adapter(self) -> Adapter:
        """With the shims on PATH."""
        return make_adapter("slurm")

    def left(self) -> list[str]:
        """What is in the queue."""
        return self.slurm.ask("squeue", "-h", "-o", "%i %T %j").splitlines()

    def cancel_outside(self, external: str) -> None:
        """As anybody would."""
        self.slurm.ask("scancel", external)

    def forget(self, external: str) -> None:
        """As after MinJobAge, without accounting. One that waits is taken away first."""
        if self.slurm.ask("squeue", "-h", "-j", external, "-o", "%T") == "PENDING":
            self.slurm.ask("scancel", external)
        self.shims.set("change.sed", f"/^{external}[^0-9]/d\n")

    def down(self, *, down: bool) -> None:
        """What the commands say when nobody listens; they take 9 s for it, which the tests of outages wait for."""
        self.shims.set("down", "" if down else None)

    def slow(self, seconds: float) -> None:
        """Each command takes longer."""
        self.shims.set("slow", f"{seconds}" if seconds else None)

    def nonsense(self, text: str) -> None:
        """Each command prints this."""
        self.shims.set("nonsense", text or None)

    def strange(self, external: str, word: str) -> None:
        """In the place of the state."""
        self.shims.set("change.sed", f"s/^({external} +)[A-Z_]+/\\1{word}/\n" if word else None)

    def twice(self, *, twice: bool) -> None:
        """Each line."""
        self.shims.set("twice", "" if twice else None)

    def lose_answer(self, how: str) -> None:
        """Of the next sbatch."""
        self.shims.set("lose", how)

    def refuse(self, text: str) -> None:
        """The next sbatch."""
        self.shims.set("refuse", text)

    def hold(self, *, hold: bool) -> None:
        """The partition is closed: what runs goes on."""
        self.slurm.ask("scontrol", "update", "PartitionName=spare", f"State={'DOWN' if hold else 'UP'}")

    def lose_node(self, external: str, pid: int) -> None:
        """The administrator takes it down, and up again."""
        host = self.host(external)
        self.slurm.ask("scontrol", "update", f"NodeName={host}", "State=DOWN", "Reason=test")
        until(lambda: "idle" in self.slurm.states()[host] or self._resumed(host), f"{host} to be up")

    def _resumed(self, host: str) -> bool:
        """Is it taken up again? By itself, mostly: ReturnToService=2, slurm.conf(5). Then this is an error."""
        argv = ["scontrol", "update", f"NodeName={host}", "State=RESUME"]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0

    def preempt(self, external: str) -> None:
        """Somebody of a better partition wants the whole node."""
        argv = ["sbatch", "--parsable", "--partition=main", f"--nodelist={self.host(external)}", "--cpus-per-task=4"]
        self.slurm.ask(*argv, "--output=/dev/null", "--chdir=/", "--wrap=true")

    def start_again(self, external: str) -> None:
        """Requeued by hand, although it has said that it does not want that."""
        self.slurm.ask("scontrol", "update", f"JobId={external}", "Requeue=1")
        self.slurm.ask("scontrol", "requeue", external)
        until(
            lambda: self.slurm.ask("squeue", "-h", "-j", external, "-o", "%T") == "PENDING", f"{external} in the queue"
        )
        self.slurm.ask("scontrol", "update", f"JobId={external}", "StartTime=now")  # else it waits for two minutes

    def host(self, external: str) -> str:
        """The node where a task runs."""
        until(lambda: self.slurm.ask("squeue", "-h", "-j", external, "-o", "%N"), f"a node of {external}")
        return self.slurm.ask("squeue", "-h", "-j", external, "-o", "%N")
