"""The adapter: the lines to its hosts, which all its runs share."""

from __future__ import annotations

import asyncio
import re

import asyncssh

from orch.adapters.agents.session import AgentsSession
from orch.adapters.contract import RunInfo, Session
from orch.adapters.ssh.boot import Code, make_code
from orch.adapters.ssh.files import Files
from orch.adapters.ssh.hosts import SshHost
from orch.adapters.ssh.line import Line
from orch.adapters.ssh.names import Name
from orch.adapters.ssh.options import SshOptions, read_options
from orch.agent.mux import Wanted
from orch.errors import AdapterError, OrchError

_FETCHED = re.compile(r"runs/[^/]+/(files|values)/.+")
"""What attempts may ask for."""


class SshAdapter:
    """Runs attempts on hosts that are reached over ssh."""

    name = "ssh"
    elsewhere = True

    def __init__(self) -> None:
        self._lines: dict[tuple[Name, SshOptions], Line] = {}
        self._code: asyncio.Future[Code] | None = None
        self._mirrors: dict[tuple[Line, str], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, info: RunInfo) -> Session:
        """Connect a run to its hosts. Raises `UserError`, `Fenced`, and `AdapterError` if none can be had."""
        options = read_options(info.options)
        agents: dict[tuple[str, str, str], str] = {}
        hosts = [
            SshHost(self._line(name, options), options, name.slots, mirrors=self._mirrors, agents=agents)
            for name in options.hosts
        ]
        session = AgentsSession(info, hosts, options.lost_after)
        try:
            await session.open()
        except BaseException:  # cancelled, too
            await session.close()
            raise
        return session

    async def close(self) -> None:
        """Hang up; agents and what they run go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(line.close() for line in self._lines.values()), return_exceptions=True)

    def _line(self, name: Name, options: SshOptions) -> Line:
        common = options._replace(hosts=())
        line = self._lines.get((name, common))
        if line is None:
            line = self._lines[name, common] = Line(name, common, self._own_code)
            line.wanted = lambda wanted, line=line: self._wanted(line, wanted)  # type: ignore[misc]
        return line

    async def _own_code(self) -> Code:
        """The code of orch, read once."""
        if self._code is None:
            self._code = asyncio.ensure_future(asyncio.to_thread(make_code))
        return await asyncio.shield(self._code)

    # Files that attempts want ---------------------------------------------------------------------------------

    def _wanted(self, line: Line, wanted: Wanted) -> None:
        task = asyncio.get_running_loop().create_task(self._send(line, wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, line: Line, wanted: Wanted) -> None:
        """Send a file, or say why not. Should the connection be cut, it is wanted again."""
        about, store = f"{wanted.mirror}\0{wanted.path}", self._mirrors.get((line, wanted.mirror))
        if store is None:
            return
        try:
            try:
                if not _FETCHED.fullmatch(wanted.path):
                    raise AdapterError("is nothing that a job has stored")
                await Files(line, store, wanted.mirror).send(wanted.path)
            except (OrchError, OSError, asyncssh.Error) as error:
                await line.ask("denied", about, f"cannot be had: {error}")
            else:
                await line.ask("granted", about)
        except AdapterError:
            return
