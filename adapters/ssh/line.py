"""The one connection to a host, which all runs of an adapter share. A bridge is at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh
import msgspec

from orch.adapters.agents.host import Refusal
from orch.adapters.contract import RunInfo
from orch.adapters.local import Link, LinkCut
from orch.adapters.ssh import boot
from orch.adapters.ssh.names import Name
from orch.adapters.ssh.options import SshOptions
from orch.adapters.ssh.reasons import explained
from orch.adapters.ssh.streams import Stream
from orch.agent.mux import Facts, Failed, Frame, Frames, Kind, Open, Question, Wanted, frame, message
from orch.agent.start import AgentDiedError
from orch.errors import AdapterError

KEEPALIVE, KEEPALIVES = 5, 3
"""Seconds between words of ours without an answer, and how many of them, until the connection counts as cut."""

_BEAT = 10.0
"""Seconds between signs of life to the bridge."""

_PATIENCE = 60.0
"""Seconds in which a bridge has to answer: an agent may have to be started."""

_LONGEST_NOISE = 1 << 20
"""Bytes that login scripts may print."""


class Line:
    """A connection, made when it is wanted, and again after it was cut. `wanted` hears of files that attempts want."""

    def __init__(self, name: Name, options: SshOptions, code: Callable[[], Awaitable[boot.Code]]) -> None:
        self.name = name
        self._options = options
        self._code = code
        self._making = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._facts: Facts | None = None
        self._sftp: asyncssh.SFTPClient | None = None
        self._number = 0
        self._streams: dict[int, Stream] = {}
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.wanted: Callable[[Wanted], None] = lambda _: None
        self.seen: dict[str, bool] = {}
        self.pushed: set[str] = set()
        self.sending: dict[str, asyncio.Lock] = {}

    async def ready(self) -> Facts:
        """Be connected. Raises `Refusal`, `AdapterError`."""
        async with self._making:
            if self._facts is None:
                try:
                    await self._connect()
                except (asyncssh.Error, OSError, ValueError) as error:
                    await self._drop()
                    raise explained(error, self.name, self._options) from error
                except BaseException:  # cancelled, too: half a connection is none
                    await self._drop()
                    raise
            assert self._facts is not None
            return self._facts

    async def dial(self, info: RunInfo, make_link: Callable[[], Link]) -> tuple[str, Link]:
        """The agent of a store there, as `orch.adapters.local.Dial` wants it."""
        await self.ready()
        self._number += 1
        number = self._number
        answer = await self._asked(number, message(number, Kind.OPEN, Open(info.store, info.work_dir)))
        link = make_link()
        self._streams[number] = Stream(number, self._send, link)
        return answer.data.decode("utf-8", "surrogateescape"), link

    async def ask(self, what: str, about: str = "", text: str = "") -> Any:
        """Have the bridge do something there. Raises `AdapterError`."""
        self._number += 1
        answer = await self._asked(self._number, message(self._number, Kind.ASK, Question(what, about, text)))
        return msgspec.msgpack.decode(answer.data)

    async def sftp(self) -> asyncssh.SFTPClient:
        """Files there. Raises `AdapterError`."""
        async with self._making:
            if self._connection is None:
                raise LinkCut("the connection is cut")
            if self._sftp is None:
                try:
                    self._sftp = await self._connection.start_sftp_client()
                except (asyncssh.Error, OSError) as error:
                    why = f"it does not see the store, and takes no files by sftp: {error}"
                    raise Refusal(f"{why}; its sshd needs a Subsystem sftp") from error
            return self._sftp

    async def close(self) -> None:
        """Let go; agents go on."""
        async with self._making:
            await self._drop()

    # Making it ------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        options = self._options
        given: dict[str, Any] = {"username": self.name.user} if self.name.user else {}
        if options.key:
            given["client_keys"] = [options.key]
        if options.known_hosts:
            given["known_hosts"] = [options.known_hosts]
        async with asyncio.timeout(options.timeout):
            self._connection = await asyncssh.connect(
                self.name.host,
                config=list(options.config),
                agent_forwarding=False,
                keepalive_interval=KEEPALIVE,
                keepalive_count_max=KEEPALIVES,
                connect_timeout=options.timeout,
                login_timeout=options.timeout,
                **given,
            )
        async with asyncio.timeout(_PATIENCE):
            self._process = await self._connection.create_process(boot.command(options.python), encoding=None)
            await self._boot(self._process)
            self._facts = await self._greeting(self._process)
        self._begin(self._listen(self._process))
        self._begin(self._beat())

    async def _boot(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """Have the code there, and the bridge."""
        orders = boot.Orders("", await self._code())
        try:
            process.stdin.write(orders.first())
            await process.stdout.readuntil(boot.MAGIC)
            found = boot.reply(await _record(process))
            process.stdin.write(boot.answer(found, orders.code))
        except ValueError as error:
            raise Refusal(str(error)) from error
        except (asyncio.IncompleteReadError, BrokenPipeError) as error:
            raise await self._ended(process) from error

    async def _greeting(self, process: asyncssh.SSHClientProcess[bytes]) -> Facts:
        """The first words of the bridge."""
        frames = Frames()
        while data := await process.stdout.read(1 << 16):
            if first := frames.feed(data):
                return msgspec.msgpack.decode(first[0].data, type=Facts)
        raise await self._ended(process)

    async def _ended(self, process: asyncssh.SSHClientProcess[bytes]) -> AdapterError:
        """Why there is no bridge."""
        await process.wait_closed()
        if process.exit_status == boot.NO_PYTHON:
            wanted = f"{self._options.python} is not" if self._options.python else "it has no"
            return Refusal(f"{wanted} a Python of 3.11 or later: give the path of one there with --ssh-python")
        if process.exit_status is None:  # the connection was cut, whatever else it looks like
            return LinkCut("the connection was cut while it was made")
        said = (await process.stderr.read()).decode("utf-8", "replace").strip()
        return AdapterError(f"orch cannot be started there (exit code {process.exit_status}): {said[-1000:]}")

    def _begin(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _drop(self) -> None:
        connection, self._connection, self._process, self._facts, self._sftp = self._connection, None, None, None, None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if connection is not None:
            connection.abort()
        self._cut()
        if connection is not None:
            with contextlib.suppress(asyncssh.Error, OSError):
                await connection.wait_closed()

    # While it is there ----------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if self._process is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(data)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            self._send(frame(0, Kind.BEAT))

    async def _listen(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """Until the connection is cut; then everybody who uses it hears of that."""
        frames = Frames()
        try:
            while data := await process.stdout.read(1 << 18):
                for each in frames.feed(data):
                    self._heard(each)
        except (asyncssh.Error, OSError) as error:
            logging.getLogger(__name__).debug("%s: %s", self.name, error)
        await self._drop()

    def _heard(self, each: Frame) -> None:
        match each.kind:
            case Kind.DATA:
                if (stream := self._streams.get(each.number)) is not None:
                    stream.heard(each.data)
            case Kind.CLOSE:
                if (stream := self._streams.pop(each.number, None)) is not None:
                    stream.ended()
            case Kind.OPENED | Kind.ANSWER | Kind.FAILED:
                if (future := self._answers.get(each.number)) is not None and not future.done():
                    future.set_result(each)
            case Kind.WANTED:
                self.wanted(msgspec.msgpack.decode(each.data, type=Wanted))
            case _:
                return

    async def _asked(self, number: int, data: bytes) -> Frame:
        if self._process is None:
            raise LinkCut("the connection is cut")
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send(data)
        try:
            async with asyncio.timeout(_PATIENCE):
                answer: Frame = await future
        except TimeoutError:
            raise AdapterError(f"it does not answer within {_PATIENCE:g} s") from None
        finally:
            del self._answers[number]
        if answer.kind is Kind.FAILED:
            failed = msgspec.msgpack.decode(answer.data, type=Failed)
            raise AgentDiedError(failed.message) if failed.again else AdapterError(failed.message)
        return answer

    def _cut(self) -> None:
        streams, self._streams = self._streams, {}
        self.seen.clear()
        self.pushed.clear()
        for stream in streams.values():
            stream.ended()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(LinkCut("the connection is cut"))


async def _record(process: asyncssh.SSHClientProcess[bytes]) -> bytes:
    length = struct.unpack("!I", await process.stdout.readexactly(4))[0]
    return await process.stdout.readexactly(length)
