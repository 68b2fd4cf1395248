"""A small run of everything: forks, a pool, programs, jobs that make jobs, a tail call, a file, a large value, a retry.

Each body writes a line to a file named after itself, as the last thing that it does: so it is known which bodies ran
to their end, and how often.
"""

import hashlib
import os
import time
from pathlib import Path

import orch

LARGE = 300 * 1024
"""Bytes: a value that does not fit into an event."""

SCRIPT = 'sleep "$2"; printf hello; echo $$ >> "$1/program"'


def ran(where: str, name: str) -> None:
    """This body is at its end."""
    descriptor = os.open(f"{where}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, b"%d\n" % os.getpid())
    os.close(descriptor)


@orch.job(isolation="pool", cores=0.1)
def pooled(where: str, number: int, seconds: float) -> int:
    time.sleep(seconds)  # the work
    ran(where, f"pooled-{number}")
    return number


@orch.job(cores=0.1)
def large(where: str, seconds: float) -> bytes:
    time.sleep(seconds)  # the work
    ran(where, "large")
    return b"x" * LARGE


@orch.job(cores=0.1)
def digest(where: str, data: bytes) -> str:
    found = hashlib.sha256(data).hexdigest()[:8]
    ran(where, "digest")
    return found


@orch.job(cores=0.1)
def write(where: str, text: str) -> orch.FileRef:
    path = orch.context().scratch / "greeting.txt"
    path.write_text(text)
    ref = orch.context().write_file(path)
    ran(where, "write")
    return ref


@orch.job(cores=0.1)
def read(where: str, file: orch.FileRef) -> str:
    found = orch.context().read_file(file).read_text()
    ran(where, "read")
    return found


@orch.job(cores=0.1)
def leaf(where: str, number: int) -> int:
    ran(where, f"leaf-{number}")
    return number


@orch.job(cores=0.1)
def fan(where: str, count: int) -> list[int]:
    made = [leaf(where, number) for number in range(count)]
    ran(where, "fan")
    return made


@orch.job(cores=0.1)
def descend(where: str, number: int) -> int:
    ran(where, f"descend-{number}")
    return descend(where, number - 1) if number else 7


@orch.job(cores=0.1, retries=5)
def flaky(where: str) -> str:
    if not Path(where, "failed").exists():
        ran(where, "failed")
        raise RuntimeError("the first time")
    ran(where, "flaky")
    return "second"


@orch.job(cores=0.1)
def gather(where: str, parts: list[object]) -> list[object]:
    ran(where, "gather")
    return parts


EXPECTED = [[0, 1], hashlib.sha256(b"x" * LARGE).hexdigest()[:8], "hi", [0, 1], 7, "second", "hello"]
KINDS = {
    "pooled": ["pooled-0", "pooled-1"],
    "leaf": ["leaf-0", "leaf-1"],
    "descend": ["descend-0", "descend-1"],
    "flaky": ["flaky", "failed"],
    "sh": ["program"],
    **{name: [name] for name in ("large", "digest", "write", "read", "fan", "gather")},
}
"""Which bodies the jobs of a kind run, all in all."""

BODIES = {name for names in KINDS.values() for name in names}


@orch.workflow
def main(where: str, seconds: float = 0.0) -> list[object]:
    program = orch.command(["sh", "-c", SCRIPT, "sh", where, str(seconds)], cores=0.1)
    return gather(
        where,
        [
            [pooled(where, number, seconds) for number in range(2)],
            digest(where, large(where, seconds)),
            read(where, write(where, "hi")),
            fan(where, 2),
            descend(where, 1),
            flaky(where),
            program["stdout"],
        ],
    )
