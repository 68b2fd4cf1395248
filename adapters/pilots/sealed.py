"""A leader's end of a connection to a pilot: an authenticated stream between a socket and a `Link`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from orch.adapters.local import Link, LinkCut
from orch.agent.pilots import PATIENCE, keep_alive
from orch.agent.seal import NONCE, BrokenSeal, Role, Seal
from orch.errors import AdapterError
from orch.worker.pilot_files import Address

CONNECT_WITHIN = 5.0
"""Seconds for each of the names of a pilot."""


async def dial_pilot(address: Address, secret: bytes, make_link: Callable[[], Link]) -> Link:
    """A connection to a pilot that has proved to be one. Raises `AdapterError`."""
    loop, problems = asyncio.get_running_loop(), []
    for name in address.names:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                _, sealed = await loop.create_connection(lambda: Sealed(secret, make_link), name, address.port)
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or str(error) or f"no answer within {CONNECT_WITHIN:g} s"
            problems.append(f"{name} port {address.port}: {why}")
            continue
        return await sealed.proved()
    raise AdapterError(f"it cannot be reached from here ({'; '.join(problems)})")


class Sealed(asyncio.Protocol):
    """What the loop tells of the socket. The link hears of it once the other side has proved that it is a pilot."""

    def __init__(self, secret: bytes, make_link: Callable[[], Link]) -> None:
        self._seal = Seal(secret, Role.LEADER, os.urandom(NONCE))
        self._make_link = make_link
        self._link: Link | None = None
        self._socket: asyncio.Transport | None = None
        self._proved: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

    async def proved(self) -> Link:
        """The link, once it is one. Raises `AdapterError`."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(self._proved)
        except TimeoutError:
            raise AdapterError("what listens there does not prove that it is a pilot") from None
        finally:
            if self._link is None and self._socket is not None:
                self._socket.abort()
                self._proved.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Told by the loop."""
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        end: socket.socket = transport.get_extra_info("socket")
        keep_alive(end)
        transport.write(self._seal.begin())

    def data_received(self, data: bytes) -> None:
        """Told by the loop."""
        assert self._socket is not None
        try:
            answer, said = self._seal.feed(data)
        except BrokenSeal as error:
            self._fail(AdapterError(f"what listens there is no pilot of this run: {error}"))
            self._socket.abort()
            return
        if answer:
            self._socket.write(answer)
        if self._seal.proven and self._link is None and not self._proved.done():
            self._link = self._make_link()
            self._link.connection_made(SealedTransport(self._socket, self._seal))
            self._proved.set_result(self._link)
        if said and self._link is not None:
            self._link.data_received(said)

    def connection_lost(self, exc: Exception | None) -> None:
        """Told by the loop."""
        self._fail(LinkCut("it has hung up"))
        if self._link is not None:
            self._link.connection_lost(exc)

    def _fail(self, error: AdapterError) -> None:
        if not self._proved.done():
            self._proved.set_exception(error)


class SealedTransport(asyncio.Transport):
    """What a link writes to."""

    def __init__(self, under: asyncio.Transport, seal: Seal) -> None:
        super().__init__()
        self._under = under
        self._seal = seal

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal it, and pass it on."""
        self._under.write(self._seal.wrap(bytes(data)))

    def is_closing(self) -> bool:
        """Is it over?"""
        return self._under.is_closing()

    def close(self) -> None:
        """Hang up; what was written is still passed on."""
        self._under.close()

    def abort(self) -> None:
        """Hang up."""
        self._under.abort()
