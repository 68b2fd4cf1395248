"""How an agent on a node listens to leaders elsewhere: on TCP, and to nobody who does not know the secret.

Everything that is said bears a code of authentication (`orch.agent.seal`). It is not encrypted: so no environment is
sent, and what is (bodies, values, outcomes, output) can be read by whoever can read the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable

from orch.agent.connections import Connection, Stream
from orch.agent.loop import Loop
from orch.agent.seal import NONCE, BrokenSeal, Role, Seal
from orch.agent.sockets import SocketStream

PATIENCE = 10.0
"""Seconds in which who connects has to prove that it knows the secret."""

MOST_STRANGERS = 64
"""Connections at once that have not proved anything yet."""

MOST_COMPLAINTS = 100

_SIOCGIFADDR = 0x8915  # netdevice(7)
_QUIET, _PROBE, _PROBES, _UNHEARD = 30, 10, 3, 60_000


def listen(wanted: str) -> socket.socket:
    """A listening socket, on a free port. `wanted`: an address, an interface; empty: all. Raises `OSError`."""
    if wanted in _interfaces():
        wanted = _address_of(wanted)
    if not wanted and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # compiled in, and switched off
            return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((wanted, 0), family=socket.AF_INET6 if ":" in wanted else socket.AF_INET)


def names_of(listening: socket.socket) -> list[str]:
    """By which others may reach a listening socket: the best first."""
    bound = listening.getsockname()[0]
    if bound not in ("", "0.0.0.0", "::"):  # noqa: S104 - whoever gets in has to know the secret
        return [bound]
    addresses = [address for each in _interfaces() if (address := _address_of(each))]
    outer = [each for each in addresses if not each.startswith("127.")]
    return list(dict.fromkeys([socket.gethostname(), socket.getfqdn(), *outer]))


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def _address_of(interface: str) -> str:
    """Its first IPv4 address; empty: it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            found = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", os.fsencode(interface)[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(found[20:24])


def keep_alive(end: socket.socket) -> None:
    """Have the kernel find out within a minute or so that the other host is gone; and send small messages at once."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _QUIET)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD)


class Door:
    """Lets in whoever proves that it knows the secret. `accept` is given its stream."""

    def __init__(
        self,
        loop: Loop,
        listening: socket.socket,
        secret: bytes,
        accept: Callable[[Stream], Connection],
        complain: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._secret = secret
        self._accept = accept
        self._complain = complain
        self._complaints = 0
        self._strangers: dict[SealedStream, None] = {}  # the oldest first
        listening.settimeout(0)
        loop.add(listening.fileno(), self._possible)

    def _possible(self, _mask: int) -> None:
        with contextlib.suppress(OSError):  # out of descriptors, say: who wants to connect waits, and the agent lives
            end, peer = self._listening.accept()
            keep_alive(end)
            stream = SealedStream(
                self, SocketStream(self._loop, end), Seal(self._secret, Role.AGENT, os.urandom(NONCE))
            )
            self._strangers[stream] = None
            stream.begin(peer[0])
            self._loop.after(PATIENCE, lambda: self._too_long(stream))
            if len(self._strangers) > MOST_STRANGERS:
                next(iter(self._strangers)).close()

    def _too_long(self, stream: SealedStream) -> None:
        if stream in self._strangers:
            self.refused(stream, "it did not prove in time that it knows the secret")

    def refused(self, stream: SealedStream, why: str) -> None:
        """It is no leader of ours, or its words were changed on the way."""
        self._complaints += 1
        if self._complaints <= MOST_COMPLAINTS:
            self._complain(f"a connection from {stream.peer} is ended: {why}")
        stream.close()

    def known(self, stream: SealedStream) -> Connection:
        """It has proved that it is one."""
        self._strangers.pop(stream, None)
        return self._accept(stream)

    def gone(self, stream: SealedStream) -> None:
        """It is over."""
        self._strangers.pop(stream, None)


class SealedStream:
    """The stream of a leader: what goes through it is authenticated."""

    def __init__(self, door: Door, stream: SocketStream, seal: Seal) -> None:
        self._door = door
        self._stream = stream
        self._seal = seal
        self._connection: Connection | None = None
        self.peer = ""

    def begin(self, peer: str) -> None:
        """Say our first words."""
        self.peer = peer
        self._stream.ear = self
        self._stream.send(self._seal.begin())

    # Told by the socket ---------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        try:
            answer, said = self._seal.feed(data)
        except BrokenSeal as error:
            self._door.refused(self, str(error))
            return
        if answer:
            self._stream.send(answer)
        if self._seal.proven and self._connection is None:
            self._connection = self._door.known(self)
        if said and self._connection is not None:
            self._connection.feed(said)

    def gone(self) -> None:
        """It is over."""
        self._door.gone(self)
        if self._connection is not None:
            self._connection.gone()

    # Told by the connection -----------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send, now or when there is room."""
        self._stream.send(self._seal.wrap(data))

    def finish(self) -> None:
        """End it once everything has been sent."""
        self._stream.finish()

    def close(self) -> None:
        """End it."""
        self._stream.close()
