"""When the agent tells a leader what has happened."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from orch.adapters.contract import Finished, Queued, Started, Unknown
from orch.agent import protocol
from orch.agent.connections import Connection
from orch.agent.model import Run
from orch.agent.news import ENOUGH, HOLD, News, presses
from orch.attempt import Note, Outcome, Reason


class Timers:
    """The agent's loop, of which only the timers are used."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> Timers:
        self.set.append((seconds, action))
        return self

    def cancel(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def fire(self) -> None:
        for _, action in self.set:
            action()
        self.set.clear()


class Told:
    """A stream and a service: what a leader was sent."""

    def __init__(self) -> None:
        self.frames = protocol.Frames()
        self.keys: list[list[str]] = []

    def send(self, data: bytes) -> None:
        for each in self.frames.feed(data):
            message = protocol.from_agent(each)
            assert isinstance(message, protocol.Updates)
            self.keys.append([update.key for update in message.items if isinstance(update, Queued)])

    def finish(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def heard(self, connection: Connection, message: msgspec.Struct) -> None:
        raise NotImplementedError

    def closed(self, connection: Connection) -> None:
        raise NotImplementedError


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def news(timers: Timers) -> News:
    return News(timers)


def leader(waiting: int) -> tuple[Told, Connection]:
    told = Told()
    connection = Connection(told, told)
    connection.run = Run("run", waiting=waiting)
    return told, connection


def test_a_leader_hears_at_once_where_little_waits(timers: Timers, news: News) -> None:
    told, connection = leader(ENOUGH - 1)
    for key in ("a", "b"):
        news.add(connection, [Queued(key)], pressing=True)
        news.tell()
    assert told.keys == [["a"], ["b"]]
    assert not timers.set


def test_where_enough_waits_it_hears_of_what_happens_within_milliseconds_together(timers: Timers, news: News) -> None:
    told, connection = leader(ENOUGH)
    for key in ("a", "b"):
        news.add(connection, [Queued(key)], pressing=True)
        news.tell()
    assert [seconds for seconds, _ in timers.set] == [HOLD]
    timers.fire()
    assert not told.keys  # not before the journal has it
    news.tell()
    assert told.keys == [["a", "b"]]
    news.add(connection, [Queued("c")], pressing=True)
    news.tell()
    assert len(timers.set) == 1
    connection.run = Run("run", waiting=0)
    news.tell()
    assert told.keys == [["a", "b"], ["c"]]


def test_what_leaves_nothing_to_do_waits_for_what_does(timers: Timers, news: News) -> None:
    told, connection = leader(0)
    for key, pressing in (("a", False), ("b", False), ("c", True), ("d", False)):
        news.add(connection, [Queued(key)], pressing=pressing)
        news.tell()
    assert told.keys == [["a", "b", "c"]]
    timers.fire()
    news.tell()
    assert told.keys == [["a", "b", "c"], ["d"]]


def test_what_presses() -> None:
    assert [presses(each) for each in (Queued("a"), Started("a", "here", 1, ""), Note("a", "log"))] == [False] * 3
    assert all(presses(each) for each in (Finished("a", Outcome("a", Reason.FAILED)), Unknown("a"), Note("a", "up")))


def test_what_was_told_is_not_looked_at_again(timers: Timers, news: News) -> None:
    told, connection = leader(0)
    news.add(connection, [Queued("a")], pressing=True)
    news.tell()
    connection.run = Run("run", waiting=ENOUGH)
    news.tell()
    assert told.keys == [["a"]]
    assert not timers.set
