"""Services: they start, are looked at from time to time, and stop when they are told to."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.attempts import World

import orch
from orch.attempt import Attempt, NewJob, Note, Outcome, Reason
from orch.bus.events import INLINE_LIMIT, Blob
from orch.work.execute import run_attempt
from orch.work.services import serve

NEVER = 3600.0


@dataclasses.dataclass
class Said:
    """What services have done, in order: they run in this process."""

    words: list[str] = dataclasses.field(default_factory=list)


said = Said()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    said.words.clear()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@dataclasses.dataclass
class Plain:
    """Says what is called; what one of them is to do is in `acts`."""

    acts: dict[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)

    def _do(self, what: str, answer: Any) -> Any:
        said.words.append(what)
        return self.acts[what]() if what in self.acts else answer

    def start(self) -> Any:
        return self._do("start", {"port": 5432})

    def check(self) -> Any:
        return self._do("check", True)

    def stop(self) -> Any:
        self._do("stop", None)


class Awaited(Plain):
    """The same, with methods that are `async`, all in one loop."""

    async def start(self) -> Any:
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self._beat())
        return self._do("start", {"port": 1})

    async def check(self) -> Any:
        assert asyncio.get_running_loop() is self.loop
        return self._do("check", True)

    async def stop(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.task.cancel()
        self._do("stop", None)

    async def _beat(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)
        if "beats" in self.acts:
            self.acts["beats"]()


class Stop:
    """The agent's side: what tells the service to stop."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def tell(self) -> None:
        self.ours.send(b".")

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


def attempt(world: World, service: Any, interval: float = NEVER) -> Attempt:
    """An attempt at the service, made without pickling by name: classes and closures of tests may be anything."""
    held[0] = service
    body = pickle.dumps((body_of, (interval,), {}))
    return world.attempt(NewJob(kind="Plain", form="service", body=Blob(data=body, size=len(body))))


held: dict[int, Any] = {}


def body_of(interval: float) -> None:
    serve(held[0], interval=interval)


def run(world: World, service: Any, stop: Stop, interval: float = NEVER, emit: Any = None) -> Outcome:
    return run_attempt(
        attempt(world, service, interval), world.place, emit or world.notes.append, stop_signal=stop.theirs.fileno()
    )


def credentials(notes: list[Note]) -> Any:
    (note,) = notes
    assert (note.key, note.kind) == ("run/1.1", "up")
    return pickle.loads(note.blob.data)


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_it_is_up_until_it_is_told_to_stop(world: World, stop: Stop, kind: Any) -> None:
    def heard(note: Note) -> None:
        world.notes.append(note)
        if kind is Plain:
            threading.Timer(0.02, stop.tell).start()  # once it waits, most likely; right also if it does not

    outcome = run(world, kind({"beats": stop.tell}), stop, emit=heard)  # what start has left in the loop goes on
    assert (outcome.reason, outcome.message) == (Reason.FINISHED, "")
    assert pickle.loads(outcome.value.data) is None
    assert credentials(world.notes) == {"port": 1 if kind is Awaited else 5432}
    assert said.words == ["start", "stop"]


def test_the_end_of_the_agent_is_a_word_to_stop(world: World, stop: Stop) -> None:
    assert run(world, Plain(), stop, emit=lambda _: stop.ours.close()).reason == Reason.FINISHED
    assert said.words == ["start", "stop"]


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_sigterm_is_a_word_to_stop(world: World, stop: Stop, kind: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    outcome = run(world, kind(), stop, emit=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert outcome.reason == Reason.FINISHED
    assert said.words[-1] == "stop"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_told_before_it_was_up_it_stops_right_after_its_start(world: World, stop: Stop, kind: Any) -> None:
    outcome = run(world, kind({"start": stop.tell}), stop)
    assert outcome.reason == Reason.FINISHED
    assert world.notes == []
    assert said.words == ["start", "stop"]


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_it_is_looked_at_from_time_to_time_until_it_is_done(world: World, stop: Stop, kind: Any) -> None:
    answers = iter([True, None, 1, False])
    outcome = run(world, kind({"check": lambda: next(answers)}), stop, interval=0.001)
    assert outcome.reason == Reason.FINISHED
    assert said.words == ["start", *["check"] * 4, "stop"]


def breaks(text: str = "broken") -> Callable[[], Any]:
    def act() -> None:
        raise ConnectionError(text)

    return act


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_a_check_that_raises_fails_it_after_its_stop(world: World, stop: Stop, kind: Any) -> None:
    outcome = run(world, kind({"check": breaks()}), stop, interval=0.001)
    assert (outcome.reason, outcome.message) == (Reason.FAILED, "ConnectionError: broken")
    assert outcome.errors[:2] == ["builtins.ConnectionError", "builtins.OSError"]
    assert said.words[-1] == "stop"


def test_a_start_that_raises_fails_it_and_there_is_nothing_to_stop(world: World, stop: Stop) -> None:
    outcome = run(world, Plain({"start": breaks()}), stop)
    assert (outcome.reason, outcome.message) == (Reason.FAILED, "ConnectionError: broken")
    assert said.words == ["start"]
    assert world.notes == []


def test_a_stop_that_raises_fails_it(world: World, stop: Stop) -> None:
    outcome = run(world, Plain({"stop": breaks()}), stop, emit=lambda _: stop.tell())
    assert (outcome.reason, outcome.message) == (Reason.FAILED, "ConnectionError: broken")


def test_the_first_mistake_is_told_and_that_of_the_stop_printed(
    world: World, stop: Stop, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Plain({"check": breaks("first"), "stop": breaks("second")})
    assert run(world, service, stop, interval=0.001).message == "ConnectionError: first"
    assert "stop failed as well:\n" in capsys.readouterr().err


@orch.job
def a_job() -> int:
    return 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: {"later": a_job()}, "start returned job a_job(), and a service makes no jobs: return plain values"),
        (threading.Lock, "what start returned cannot be passed on: TypeError: cannot pickle '_thread.lock' object"),
    ],
)
def test_credentials_that_cannot_be_passed_on(world: World, stop: Stop, answer: Any, message: str) -> None:
    outcome = run(world, Plain({"start": answer}), stop)
    assert (outcome.reason, outcome.message) == (Reason.FAILED, message)
    assert said.words == ["start", "stop"]


def test_large_credentials_are_a_file(world: World, stop: Stop) -> None:
    def heard(note: Note) -> None:
        world.notes.append(note)
        stop.tell()

    outcome = run(world, Plain({"start": lambda: b"x" * INLINE_LIMIT}), stop, emit=heard)
    assert outcome.reason == Reason.FINISHED
    blob = world.notes[0].blob
    assert blob.file == "runs/run/values/000/1.1.up"
    assert pickle.loads(world.bytes(blob)) == b"x" * INLINE_LIMIT


def test_its_context_is_there(world: World, stop: Stop) -> None:
    run(world, Plain({"start": lambda: orch.context().log(orch.context().job_id), "check": stop.tell}), stop, 0.001)
    assert [note.value for note in world.notes if note.kind == "log"] == ["1"]


def test_aside_in_a_thread_it_disturbs_nobody(world: World, stop: Stop) -> None:
    """As in a run within one process: a job in the main thread, and a service beside it."""
    up, seen = threading.Event(), []
    service = Plain({"start": lambda: seen.append(orch.context().job_id)})
    beside = attempt(world, service)
    outcomes: list[Outcome] = []

    def work() -> None:
        outcomes.append(
            run_attempt(beside, world.place, lambda _: up.set(), stop_signal=stop.theirs.fileno(), aside=True)
        )

    def main() -> str:
        thread.start()
        assert up.wait(20)
        own = orch.context().job_id
        stop.tell()
        thread.join()
        return f"{own} {os.environ['TMPDIR'] == str(orch.context().scratch)} {orch.context().job_id}"

    thread = threading.Thread(target=work)
    held[1] = main
    body = pickle.dumps((call_held, (), {}))
    other = world.attempt(NewJob(kind="main", body=Blob(data=body, size=len(body))), 2)
    assert pickle.loads(world.run(other).value.data) == "2 True 2"
    assert outcomes[0].reason == Reason.FINISHED
    assert seen == ["1"]
    assert said.words == ["start", "stop"]


def call_held() -> Any:
    return held[1]()
