"""How the commands of a batch system are called: never for ever, few at once, seldom while there is trouble."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.agents import Signal, process_gone

from orch.adapters.batch import calls as module
from orch.adapters.batch import watch as watching
from orch.adapters.batch.calls import AT_ONCE, Calls, call
from orch.adapters.batch.dialect import Answer, Command, NotTaken, Refused, Seen, Stage, Trouble
from orch.adapters.batch.records import Submission, Task
from orch.adapters.batch.watch import Watch
from orch.worker.spool import Spool, Ticket


def shell(script: str, **more: Any) -> Command:
    return Command(["sh", "-c", script], **more)


def out(answers: Sequence[Answer]) -> str:
    return answers[0].out


# One command ----------------------------------------------------------------------------------------------------


async def test_an_answer_has_code_words_and_what_was_asked() -> None:
    answer = await call(shell("cat; echo ünï >&2; printf '\\377'; exit 3", stdin="in", env={"X": "1"}), 10)
    assert (answer.code, answer.out, answer.err) == (3, "in\ufffd", "ünï\n")
    assert answer.said == "ünï"


async def test_what_is_no_text_goes_in_as_it_is() -> None:
    answer = await call(shell("od -An -tx1", stdin="/st\udcffre"), 10)
    assert answer.out.split() == ["2f", "73", "74", "ff", "72", "65"]


async def test_variables_are_set_and_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GONE", "1")
    monkeypatch.setenv("STAYS", "2")
    answer = await call(shell("echo $GONE,$STAYS,$NEW", env={"GONE": None, "NEW": "3"}), 10)
    assert answer.out == ",2,3\n"


async def test_what_takes_too_long_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    """Also where a grandchild has a session of its own, and holds the pipes: then that is let be."""
    there = Signal(tmp_path / "there")
    child = f"echo $$ > {tmp_path}/near; echo -n x > {there.path}; exec sleep 1000"
    command = shell(f"setsid sleep 1000 & echo $! > {tmp_path}/away; sh -c '{child}' & wait")
    with pytest.raises(Trouble, match="no answer within"):
        await call(command, 0.5)
    await there.wait()
    await process_gone(int((tmp_path / "near").read_text()))
    os.kill(int((tmp_path / "away").read_text()), 9)
    there.close()


async def test_a_call_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    there = Signal(tmp_path / "there")
    task = asyncio.create_task(call(shell(f"echo $$ > {tmp_path}/pid; echo -n x > {there.path}; sleep 1000"), 100))
    await there.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await process_gone(int((tmp_path / "pid").read_text()))
    there.close()


async def test_an_answer_without_end_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OUT", 100_000)
    with pytest.raises(Trouble, match="more than"):
        await call(shell("yes"), 60)


@pytest.mark.parametrize("program", ["/nowhere/qsub", "orch-no-such-program"])
async def test_a_program_that_is_not_there_has_surely_taken_nothing(program: str) -> None:
    with pytest.raises(NotTaken, match=program):
        await call(Command([program]), 10)


# Many of them ---------------------------------------------------------------------------------------------------


def quick(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Calls:
    """Calls with a back-off that begins at some milliseconds."""
    monkeypatch.setattr(module, "Backoff", lambda _: _Short())
    return Calls("slurm", said.append)


class _Short:
    def __init__(self) -> None:
        self.waits = 0

    def more(self) -> float:
        self.waits += 1
        return 0.01

    def reset(self) -> None:
        self.waits = 0


@pytest.mark.parametrize("word", ["a\0b", "a" * 4_000_000], ids=["nul", "long"])
async def test_what_no_command_can_be_told_is_refused(word: str) -> None:
    """To try that again and again would be of no use."""
    with pytest.raises(Refused, match="cannot be told"):
        await call(Command(["true", word]), 5)


async def test_trouble_is_said_once_and_that_it_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    calls = quick(monkeypatch, said)
    command = shell(f"test -e {tmp_path}/up && echo fine")

    def parse(answers: Sequence[Answer]) -> str:
        if answers[0].code:
            raise Trouble("unable to contact the controller")
        return answers[0].out

    for _ in range(5):
        with pytest.raises(Trouble):
            await calls.ask("look", [command], parse)
    assert calls.trouble.startswith("slurm does not answer: sh: unable to contact the controller")
    (tmp_path / "up").touch()
    assert await calls.insist("look", [command], parse) == "fine\n"
    assert calls.trouble == ""
    assert [text.split(";")[0] for text in said] == [
        "slurm does not answer: sh: unable to contact the controller",
        "slurm answers again, after 0 ms",
    ]


async def test_one_outage_is_said_once_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    calls = quick(monkeypatch, said)
    down, up = shell("exit 1"), shell("true")

    def parse(answers: Sequence[Answer]) -> None:
        if answers[0].code:
            raise Trouble("connection refused")

    def full(_: Sequence[Answer]) -> None:
        raise NotTaken("the queue is full")

    for kind in ("look", "cancel", "search") * 3:
        with pytest.raises(Trouble):
            await calls.ask(kind, [down], parse)
    for _ in range(3):
        with pytest.raises(NotTaken):
            await calls.ask("submit", [up], full)
    assert [text.split(": ")[0] for text in said] == ["slurm does not answer", "slurm takes nothing now"]
    await calls.ask("look", [up], parse)
    await calls.ask("cancel", [up], parse)
    assert len(said) == 2  # one of them does not answer yet
    await calls.ask("search", [up], parse)
    await calls.ask("submit", [up], parse)
    assert [text.split(",")[0] for text in said[2:]] == ["slurm answers again", "slurm takes submissions again"]


async def test_a_single_trouble_is_not_worth_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    calls = quick(monkeypatch, said)
    with pytest.raises(Trouble):
        await calls.ask("look", [Command(["/nowhere/squeue"])], out)
    await calls.ask("look", [shell("true")], out)
    assert said == []


async def test_a_parser_that_stumbles_is_trouble() -> None:
    calls = Calls("slurm", lambda _: None)
    with pytest.raises(Trouble, match=r"not understood \(KeyError: 'jobs'\): <html>"):
        await calls.ask("look", [shell("echo '<html>'")], lambda _: dict[str, str]()["jobs"])


async def test_a_refusal_is_none() -> None:
    def parse(_: Sequence[Answer]) -> str:
        raise Refused("no such queue")

    calls = Calls("slurm", lambda _: None)
    with pytest.raises(Refused):
        await calls.ask("submit", [shell("exit 1")], parse)
    assert calls.trouble == ""


async def test_after_trouble_the_same_is_not_asked_too_soon_and_something_else_is() -> None:
    calls = Calls("slurm", lambda _: None)
    with pytest.raises(Trouble):
        await calls.ask("look", [Command(["/nowhere/squeue"])], out)
    again = asyncio.create_task(calls.ask("look", [shell("true")], out))
    assert await calls.ask("submit", [shell("echo 5")], out) == "5\n"
    assert not again.done()
    assert calls.total["look"] == 1  # it waits for its time
    again.cancel()


async def test_few_of_a_kind_run_at_once_and_none_waits_for_another_kind(tmp_path: Path) -> None:
    calls = Calls("slurm", lambda _: None)
    there, hold = Signal(tmp_path / "there"), Signal(tmp_path / "hold")
    slow = shell(f"echo -n x > {there.path}; head -c1 < {hold.path}")
    tasks = [asyncio.create_task(calls.ask("look", [slow], out)) for _ in range(AT_ONCE + 2)]
    await there.wait(AT_ONCE)
    assert await calls.ask("submit", [shell("echo 5")], out) == "5\n"
    assert calls.total == Counter(look=AT_ONCE, submit=1)
    Path(hold.path).write_bytes(b"x" * len(tasks))
    await asyncio.gather(*tasks)
    assert calls.recent(60) == Counter(look=AT_ONCE + 2, submit=1)
    there.close()
    hold.close()


# The watch ------------------------------------------------------------------------------------------------------


class Pure:
    """A dialect whose batch system is in memory, and remembers what it was asked."""

    name = "pure"
    index_variable = "INDEX"
    job_variable = "JOB"
    most_tasks = 1000
    most_asked = 5000
    lag = 0.0
    backend_keys = None

    def __init__(self, tasks: dict[str, Seen]) -> None:
        self.tasks = tasks
        self.asked: list[tuple[str, int]] = []
        self.listens = True

    def _note(self, kind: str, count: int) -> None:
        if self.listens:
            self.asked.append((kind, count))

    def task(self, job: str, index: int, size: int) -> str:
        return f"{job}.{index}"

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        self._note("look", len(jobs))
        return [Command([sys.executable])]

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        return self.tasks

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        self._note("recall", len(tasks))
        return [Command([sys.executable])]

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        return {}


class Hears:
    """A session that only writes down what it is told."""

    def __init__(self, dialect: Pure) -> None:
        self.dialect = dialect
        self.looks = 0
        self.wanted = 0
        self.seen_enough = asyncio.Event()
        self.missing: list[str] = []
        self.outcomes: set[str] = set()

    def task_id(self, job: str, index: int, size: int) -> str:
        return self.dialect.task(job, index, size)

    def saw(self, task: Task, seen: Seen) -> bool:
        new, task.seen = task.seen != seen, seen
        return new

    def missed(self, task: Task, *, surely: bool) -> bool:
        self.missing.append(task.key)
        return False

    async def check(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.gone = task.key in self.outcomes

    async def enough(self, looks: int) -> None:
        self.wanted = looks
        await self.seen_enough.wait()

    def looked(self) -> None:
        self.looks += 1
        if self.looks >= self.wanted:
            self.seen_enough.set()
            self.dialect.listens = False  # there may be another look before this test goes on

    def turned_up(self, submission: Submission) -> None:
        raise AssertionError


async def watched(
    jobs: int, size: int, looks: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gone: int = 0
) -> tuple[Pure, Hears, Watch]:
    """Watch so many arrays for some looks, of each of which `gone` tasks are not in the queue any more."""

    async def answer(command: Command, _: float) -> Answer:
        return Answer(command, 0, "", "")

    monkeypatch.setattr(module, "call", answer)
    monkeypatch.setattr(watching, "LEAST", 0.001)
    monkeypatch.setattr(watching, "MOST", 0.002)
    queued = Seen(Stage.QUEUED, "PENDING", "Priority")
    dialect = Pure({f"{job}.{task}": queued for job in range(jobs) for task in range(1 + gone, size + 1)})
    calls = Calls("pure", lambda _: None)
    hears, watch = Hears(dialect), Watch(dialect, calls)  # type: ignore[arg-type]
    for job in range(jobs):
        submission = Submission(f"1-{job}", f"o-{job}", time.time(), Spool(str(tmp_path), "run"), hears, job=str(job))
        submission.tasks = [
            Task(f"run.{job}-{task}.1", Ticket(f"1-{job}", task), submission) for task in range(1, size + 1)
        ]
        watch.add(submission)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(20):
        await hears.enough(looks)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return dialect, hears, watch


@pytest.mark.parametrize(("jobs", "size"), [(1, 10), (10, 1), (2, 500), (1000, 1)])
async def test_many_in_the_queue_cost_no_more_calls_than_few(
    jobs: int, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dialect, hears, _ = await watched(jobs, size, 5, monkeypatch, tmp_path)
    assert dialect.asked == [("look", jobs)] * 5
    assert hears.missing == []


async def test_what_has_vanished_is_asked_for_in_the_records_with_one_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dialect, hears, _ = await watched(20, 10, 2, monkeypatch, tmp_path, gone=3)
    assert dialect.asked == [("look", 20), ("recall", 60)] * 2
    assert len(set(hears.missing)) == 60


async def test_what_has_left_an_outcome_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Hears, "check", _all_are_gone)
    dialect, _, _ = await watched(20, 10, 2, monkeypatch, tmp_path, gone=3)
    assert dialect.asked == [("look", 20)] * 2


async def _all_are_gone(_: Hears, tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.gone = True


async def test_nothing_is_asked_while_there_is_nothing_to_ask_about() -> None:
    dialect = Pure({})
    watch = Watch(dialect, Calls("pure", lambda _: None))  # type: ignore[arg-type]
    running = asyncio.create_task(watch.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert dialect.asked == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_watch_asks_seldom() -> None:
    """In a minute in which nothing changes; and in one in which everything does."""
    assert watching.LEAST >= 8
    assert watching.MOST == 60
