"""Which settings each of our adapters has: what `orch config` and `orch run --adapter NAME --help` show.

Light, for the command reads it: what a value means in the end is the dialect's matter.
"""

from __future__ import annotations

from collections.abc import Callable

from orch.adapters.options import Option
from orch.sizes import parse_duration, parse_size


def _whole(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise ValueError(f"{text!r} is not a whole number from 1 on")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return check


YES_OR_NO = _one_of("true", "false")

BATCH = (
    Option("batch-poll-interval", "ask the batch system that often", "TIME", "as seldom as it can", parse_duration),
    Option("batch-max-queued", "tasks that are in the batch system at once", "N", "1000", _whole),
    Option(
        "batch-memory", "whether it is told how much memory a job needs", "pass|omit", "pass", _one_of("pass", "omit")
    ),
    Option("batch-overhead", "memory beside the job's own, for its worker", "SIZE", "128MiB", parse_size),
    Option("batch-python", "the Python that runs workers on nodes", "PATH", "the leader's"),
    Option("batch-work-dir", "scratch on the nodes", "DIR", "below $TMPDIR of the task, or /tmp"),
    Option("batch-call-timeout", "how long one of its commands may take", "TIME", "60s", parse_duration),
    Option(
        "batch-missing-after", "how long it may not know a task before that is given up", "TIME", "2min", parse_duration
    ),
    Option("batch-strict", "unknown keys in backend={…} are errors", "", "false", YES_OR_NO),
    Option("batch-probe", "first look, from inside a task, whether nodes see the store", "", "true", YES_OR_NO),
)
"""Those of all batch systems."""

SLURM: tuple[Option, ...] = ()
GRIDENGINE: tuple[Option, ...] = ()
LSF: tuple[Option, ...] = ()
PBS: tuple[Option, ...] = ()
TORQUE: tuple[Option, ...] = ()
HTCONDOR: tuple[Option, ...] = ()
FAKE: tuple[Option, ...] = (Option("fake-cluster", "the directory in which the fake cluster lives", "DIR"),)
SSH: tuple[Option, ...] = ()

OURS: dict[str, tuple[Option, ...]] = {
    "slurm": (*SLURM, *BATCH),
    "gridengine": (*GRIDENGINE, *BATCH),
    "lsf": (*LSF, *BATCH),
    "pbs": (*PBS, *BATCH),
    "torque": (*TORQUE, *BATCH),
    "htcondor": (*HTCONDOR, *BATCH),
    "fake": (*FAKE, *BATCH),
    "ssh": SSH,
}
"""By adapter."""
