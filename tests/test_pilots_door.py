"""Who is let in by a pilot, and what a leader believes: wrong secrets, replays, reflections, garbage, silence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from orch.adapters.pilots.sealed import dial_pilot
from orch.agent import pilots
from orch.agent.pilots import Door, listen, names_of
from orch.agent.seal import NONCE, PROOF, Role, Seal
from orch.errors import AdapterError
from orch.worker.pilot_files import Address

SECRET = b"s" * 32
PATIENCE = 10.0


class Pump:
    """A loop that goes round when it is told to, and whose time is ours."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def add(self, descriptor: int, callback: Callable[[int], None]) -> None:
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, select.EPOLLIN)

    def want(self, descriptor: int, mask: int) -> None:
        self._epoll.modify(descriptor, mask)

    def remove(self, descriptor: int) -> None:
        self._callbacks.pop(descriptor)
        self._epoll.unregister(descriptor)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.timers.append((seconds, action))

    def once(self) -> None:
        """Wait for something, and have it done."""
        found = self._epoll.poll(PATIENCE)
        assert found, "nothing has come"
        for descriptor, mask in found:
            if descriptor in self._callbacks:
                self._callbacks[descriptor](mask)

    def close(self) -> None:
        self._epoll.close()


class Echo:
    """In the place of a `Connection`: says again what it hears."""

    def __init__(self, stream: pilots.SealedStream) -> None:
        self.stream = stream
        self.heard = b""
        self.over = False

    def feed(self, data: bytes) -> None:
        self.heard += data
        self.stream.send(data.upper())

    def gone(self) -> None:
        self.over = True


class Place:
    """A door, and who came in."""

    def __init__(self) -> None:
        self.loop = Pump()
        self.listening = listen("127.0.0.1")
        self.inside: list[Echo] = []
        self.complaints: list[str] = []
        self.door = Door(self.loop, self.listening, SECRET, self._accept, self.complaints.append)  # type: ignore[arg-type]

    def _accept(self, stream: pilots.SealedStream) -> Echo:
        self.inside.append(Echo(stream))
        return self.inside[-1]

    def connect(self) -> socket.socket:
        """Somebody comes, and has heard the pilot's first words."""
        end = socket.create_connection(self.listening.getsockname(), timeout=PATIENCE)
        self.loop.once()
        return end

    def close(self) -> None:
        for stream in [*(echo.stream for echo in self.inside), *self.door._strangers]:
            stream.close()
        self.loop.close()
        self.listening.close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def take(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        if not more:
            return data
        data += more
    return data


def let_in(place: Place, nonce: bytes = b"n" * NONCE) -> tuple[socket.socket, Seal, bytes]:
    """A leader that knows the secret; and all that it has sent."""
    end, seal = place.connect(), Seal(SECRET, Role.LEADER, nonce)
    answer, _ = seal.feed(take(end, NONCE))
    end.sendall(seal.begin() + answer)
    place.loop.once()
    seal.feed(take(end, PROOF))
    assert seal.proven
    return end, seal, seal.begin() + answer


def refused(end: socket.socket) -> None:
    """It is hung up on, and has heard no more than what anybody hears."""
    assert len(take(end, 1 << 16)) <= NONCE + PROOF
    end.close()


def test_a_leader_that_knows_the_secret_is_let_in(place: Place) -> None:
    end, seal, _ = let_in(place)
    end.sendall(seal.wrap(b"hello"))
    place.loop.once()
    assert place.inside[0].heard == b"hello"
    assert seal.feed(end.recv(1 << 16)) == (b"", b"HELLO")
    end.close()
    place.loop.once()
    assert place.inside[0].over
    assert place.complaints == []


def test_a_wrong_secret_is_noted_and_costs_nothing(place: Place) -> None:
    end, seal = place.connect(), Seal(b"x" * 32, Role.LEADER, b"n" * NONCE)
    answer, _ = seal.feed(take(end, NONCE))
    end.sendall(seal.begin() + answer)
    place.loop.once()
    refused(end)
    assert place.inside == []
    assert "does not know the secret" in place.complaints[0]
    let_in(place)[0].close()


def test_what_a_leader_has_said_once_is_of_no_use_to_another(place: Place) -> None:
    first, seal, said = let_in(place)
    words = seal.wrap(b"hello")
    other = place.connect()
    other.sendall(said + words)
    place.loop.once()
    refused(other)
    assert len(place.inside) == 1
    first.sendall(words + words)  # nor can it be said twice
    place.loop.once()
    assert place.inside[0].over
    assert "has not sent, or not now" in place.complaints[-1]
    first.close()


def test_a_pilots_own_words_prove_nothing(place: Place) -> None:
    """Its nonce sent back; and its proof."""
    end = place.connect()
    end.sendall(take(end, NONCE))
    place.loop.once()
    refused(end)
    end = place.connect()
    take(end, NONCE)
    end.sendall(b"n" * NONCE)
    place.loop.once()
    end.sendall(take(end, PROOF))
    place.loop.once()
    refused(end)
    assert place.inside == []


def test_words_that_are_changed_on_the_way_end_it(place: Place) -> None:
    end, seal, _ = let_in(place)
    words = bytearray(seal.wrap(b"hello"))
    words[6] ^= 1
    end.sendall(words)
    place.loop.once()
    refused(end)
    assert place.inside[0].heard == b""


def test_garbage_is_refused(place: Place) -> None:
    end = place.connect()
    take(end, NONCE)
    end.sendall(b"GET / HTTP/1.1\r\n" + b"x" * 200)
    place.loop.once()
    assert place.inside == []
    assert len(place.complaints) == 1
    end.close()


def test_who_says_nothing_is_sent_away_in_time_and_others_come_in_meanwhile(place: Place) -> None:
    silent = place.connect()
    [(seconds, too_long)] = place.loop.timers
    let_in(place)[0].close()
    assert seconds == pilots.PATIENCE
    too_long()
    take(silent, NONCE)
    refused(silent)
    place.loop.timers[1][1]()  # who is known by then stays
    assert len(place.complaints) == 1


def test_strangers_do_not_pile_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pilots, "MOST_STRANGERS", 2)
    ends = [place.connect() for _ in range(3)]
    take(ends[0], NONCE)
    refused(ends[0])
    for end in ends[1:]:
        end.close()


def test_a_socket_is_named_by_what_it_is_bound_to() -> None:
    with listen("lo") as end:
        assert names_of(end) == ["127.0.0.1"]
    with pytest.raises(OSError, match=r".+"), listen("192.0.2.1"):  # of no interface here: RFC 5737
        pass


# The leader's side --------------------------------------------------------------------------------------------------


async def dial_to(talk: Callable[[bytes], bytes]) -> str:
    """What a leader says that reaches something which answers to its first words with `talk`."""
    over = asyncio.Event()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(talk(await reader.readexactly(NONCE)))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        over.set()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(AdapterError) as caught:
        await dial_pilot(Address(["127.0.0.1"], port, "", "", 0.0), SECRET, lambda: pytest.fail("it is no pilot"))
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    server.close()
    return str(caught.value)


async def test_a_leader_does_not_believe_who_does_not_know_the_secret() -> None:
    assert "does not know the secret" in await dial_to(lambda _: os.urandom(NONCE + PROOF))


async def test_a_leader_does_not_believe_its_own_words() -> None:
    assert "our own words" in await dial_to(lambda nonce: nonce + b"x" * PROOF)


async def test_a_leader_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orch.adapters.pilots.sealed.PATIENCE", 0.1)
    assert "does not prove" in await dial_to(lambda _: b"")


async def test_where_nobody_listens_it_is_said() -> None:
    with listen("127.0.0.1") as end:
        port = end.getsockname()[1]
    with pytest.raises(AdapterError, match="cannot be reached from here"):
        await dial_pilot(Address(["127.0.0.1"], port, "", "", 0.0), SECRET, lambda: pytest.fail("nobody is there"))
