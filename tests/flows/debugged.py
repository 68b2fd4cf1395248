"""Jobs to be run again: with values, files, new jobs, a program, a deferred function, and one that fails."""

import os
from pathlib import Path

import orch


@orch.job
def text(word: str) -> orch.FileRef:
    path = orch.context().scratch / "words.txt"
    path.write_text(f"{word} " * 3)
    orch.context().annotate("words", 3)
    return orch.context().write_file(path)


@orch.job
def large() -> bytes:
    return b"x" * 100_000  # beyond what an event holds


@orch.job
def count(file: orch.FileRef, data: bytes, where: str) -> dict[str, int]:
    here = orch.context()
    path = here.read_file(file, to="mine.txt", mutable=True)
    path.write_text(path.read_text() + "more")
    print("counting")  # noqa: T201 - it is shown
    here.defer(Path(where, "deferred").touch)
    return {"words": len(path.read_text().split()), "bytes": len(data), "attempt": here.attempt}


@orch.job(isolation="pool")
def fan(number: int) -> list[int]:
    return [double(n) for n in range(number)]


@orch.job
async def double(number: int) -> int:
    return 2 * number


@orch.job(retries=1)
def broken(counted: dict[str, int]) -> int:
    missing = "no such key"
    return counted[missing]


@orch.job
def after(value: int) -> int:
    return value


class Sorted(orch.Job):
    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self.numbers = numbers

    def run(self) -> list[int]:
        return sorted(self.numbers)


class Echo(orch.Service):
    def start(self) -> str:
        return "echo://here"


@orch.job
def served() -> object:
    here = orch.context()
    return here.add_child(ask(here.add_service(Echo())))


@orch.job
def ask(url: str) -> str:
    return f"{url}/ask"


@orch.workflow
def main(where: str) -> list[object]:
    counted = count(text("again"), large(), where)
    program = orch.command(["sh", "-c", 'echo "$1"; exit 3', "sh", "said"], env={"MINE": "yes"}, name="program")
    return [counted, fan(2), after(broken(counted)), program, Sorted([3, 1, 2]), served(), os.getpid()]
