"""Bodies of attempts, for tests of the agent: templates import this module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from orch.work.context import context

HOUR = 3600


def touch(path: str) -> None:
    """Say that we are here: one byte into a file, or into a pipe that has that name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, b".")
    os.close(descriptor)


def add(x: int, y: int) -> int:
    return x + y


def pid() -> int:
    return os.getpid()


def shout(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stderr.write(f"{text.upper()}\n")


def wait_for(path: str, said: str = "") -> str:
    """Run until somebody opens the pipe at `path` for writing."""
    if said:
        touch(said)
    with open(path, encoding="utf-8") as pipe:
        return pipe.read()


def hang(said: str = "") -> None:
    if said:
        touch(said)
    while True:
        signal.pause()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code: int) -> None:
    os._exit(code)


def eat(size: int, said: str = "") -> None:
    """Have memory, and keep it."""
    block = bytearray(size)
    for at in range(0, size, 4096):
        block[at] = 1
    if said:
        touch(said)
    signal.pause()


def flood(size: int) -> None:
    block = b"x" * (1 << 20)
    sys.stdout.write("the beginning\n")
    sys.stdout.flush()
    for _ in range(size >> 20):
        os.write(1, block)
    sys.stdout.write("\nthe end\n")


def note(name: str, value: object) -> None:
    context().annotate(name, value)
    context().log("a line")


def environment(name: str) -> str | None:
    return os.environ.get(name)


def scatter(said: str, *, executed: bool) -> None:
    """Leave a grandchild behind, in a session of its own, and hang. It says its pid in the file `said`."""
    spread(said, executed=executed)
    hang()


def spread(said: str, *, executed: bool) -> None:
    """Leave a grandchild behind, in a session of its own. Two forks, so that it is nobody's child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            Path(said).write_text(str(os.getpid()), encoding="utf-8")
            os.write(writing, b".")
            os.close(writing)
            if executed:
                os.execv("/bin/sleep", ["sleep", str(HOUR)])
            while True:
                time.sleep(HOUR)
        os._exit(0)
    os.waitpid(child, 0)
    os.read(reading, 1)


def start_program() -> None:
    subprocess.Popen(["sleep", str(HOUR)], start_new_session=True)


def thread_names() -> list[str]:
    return [each.name for each in threading.enumerate()]


def overlap(directory: str) -> int:
    """How many of us ran at the same time, at most, while this one did."""
    own = Path(directory) / str(os.getpid())
    own.touch()
    most = 0
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        most = max(most, len(os.listdir(directory)))
    own.unlink()
    return most


def variables(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def kill_the_template(said: str = "") -> None:
    """Take along what was forked from the same template."""
    if said:
        touch(said)
    os.kill(os.getppid(), signal.SIGKILL)
    hang()


def burn(seconds: float) -> None:
    """Use so much CPU time."""
    while time.process_time() < seconds:
        pass


def burn_in_child(seconds: float) -> None:
    """Have a child use CPU time, and wait for it."""
    child = os.fork()
    if child == 0:
        burn(seconds)  # a fork's clock begins anew
        os._exit(0)
    os.waitpid(child, 0)


def leave_an_orphan(seconds: float, said: str, held: str) -> None:
    """Have an orphan use CPU time, and live until there is something in the pipe `held`."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            burn(seconds)
            touch(said)
        os._exit(0)
    os.waitpid(child, 0)
    with open(held, "rb", buffering=0) as pipe:
        pipe.read(1)


def have_for_a_moment(size: int) -> None:
    """Have memory, and give it back."""
    bytearray(b"x") * size


def fill_scratch(size: int, die: bool) -> None:
    path = context().scratch / "a"
    path.mkdir()
    (path / "b").write_bytes(b"x" * size)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)


def litter(*, crash: bool = False) -> tuple[str, list[str]]:
    """Leave 100 kB in the scratch directory; where that is, and what was there before."""
    where = os.environ["TMPDIR"]
    found = os.listdir(where)
    Path(where, "left").write_bytes(b"x" * 100_000)
    if crash:
        os.kill(os.getpid(), signal.SIGSEGV)
    return where, found


def start_one() -> tuple[str, list[str]]:
    """Run a program, and litter."""
    subprocess.run(["true"], check=True)
    return litter()


def imported(module: str) -> bool:
    """Has this process imported it?"""
    return module in sys.modules


def write_file(text: str) -> None:
    """Store a file."""
    path = context().scratch / "text"
    path.write_text(text, encoding="utf-8")
    context().write_file(path)
