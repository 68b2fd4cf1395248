"""A host over ssh, as a session over agents knows it: whether it sees the store, and what its environment is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import msgspec

from orch.adapters.agents.host import HostSession, Refusal
from orch.adapters.contract import RunInfo
from orch.adapters.local import LocalSession
from orch.adapters.ssh.line import Line
from orch.adapters.ssh.mirror import MirrorSession, mirror_name
from orch.adapters.ssh.options import SshOptions
from orch.agent.linux import boot_id
from orch.agent.mux import Facts
from orch.agent.paths import host_name
from orch.store import layout
from orch.store.private import make_private, open_private

_MOST_APART = 60.0
"""Seconds by which the clock of a host may differ from ours before the user is told."""


class SshHost:
    """A host. `remarks`: what its user should know of it, said when it is there."""

    def __init__(
        self,
        line: Line,
        options: SshOptions,
        slots: int,
        *,
        mirrors: dict[tuple[Line, str], str],
        agents: dict[tuple[str, str, str], str],
    ) -> None:
        self.name = str(line.name)
        self._line = line
        self._options = options
        self._slots = slots
        self._mirrors = mirrors  # whose mirror each is
        self._agents = agents  # of this run: by whom each is reached
        self.remarks: list[str] = []

    async def connect(self, info: RunInfo) -> HostSession:
        """A session with its agent. Raises `Fenced`, `Refusal`, `AdapterError`."""
        facts = await self._line.ready()
        shared = await self._sees(info, facts)
        self.remarks = _remarks(facts)
        here = msgspec.structs.replace(
            info,
            environment=environment_there(info, facts),
            named=[],
            store=info.store if shared else self._mirror(info.store, facts),
            work_dir=self._options.work_dir,
            cores=float(self._slots),
            memory=0,
            disk=0,
        )
        other = self._agents.setdefault((facts.host, facts.boot, here.store), self.name)
        if other != self.name:
            raise Refusal(f"it is the same host as {other} ({facts.host}), and a host can be named once only")
        if shared:
            return await _connected(LocalSession(here, self._line.dial, lasting=False))
        self._mirrors[self._line, here.store] = info.store
        await self._line.ask("mirror", here.store, info.store)
        return MirrorSession(
            await _connected(LocalSession(here, self._line.dial, lasting=False)), self._line, info, here
        )

    def _mirror(self, store: str, facts: Facts) -> str:
        base = self._options.work_dir or facts.cache
        return os.path.join(base, "mirrors", mirror_name(store))

    async def _sees(self, info: RunInfo, facts: Facts) -> bool:
        """Does it see the store, in the same place? This very host counts as one that does not: its agent is in use."""
        if (facts.host, facts.boot) == (host_name(), boot_id()):
            return False
        if info.store not in self._line.seen:
            self._line.seen[info.store] = await self._tried(info)
        return self._line.seen[info.store]

    async def _tried(self, info: RunInfo) -> bool:
        path, text = await asyncio.to_thread(_put_nonce, os.path.join(info.store, layout.hosts_dir(info.run)))
        try:
            seen = await self._line.ask("sees", path, text)
        finally:
            answered = await asyncio.to_thread(_take_nonce, path)
        return bool(seen) and answered


async def _connected(session: LocalSession) -> LocalSession:
    await session.connect()
    return session


def environment_there(info: RunInfo, facts: Facts) -> dict[str, str]:
    """The run's environment there: what goes along, and what only the host can say.

    Programs are looked for where the leader has them, and then where that host has.
    """
    sent, there = info.environment_abroad(), facts.environment
    found = {**there, **sent}
    for name in ("PATH", "PYTHONPATH"):
        ways = [each for each in (sent.get(name, ""), there.get(name, "")) if each]
        if ways:
            found[name] = os.pathsep.join(ways)
    return found


def _remarks(facts: Facts) -> list[str]:
    apart = facts.clock - time.time()
    if abs(apart) <= _MOST_APART:
        return []
    way = "ahead of" if apart > 0 else "behind"
    return [f"the clock of host {facts.host} is {abs(apart):.0f} s {way} the one here: its times are its own"]


def _put_nonce(directory: str) -> tuple[str, str]:
    """A file that says something nobody can know."""
    make_private(directory)
    text = os.urandom(16).hex()
    path = os.path.join(directory, f"nonce-{text[:8]}")
    with open(path, "x", encoding="ascii", opener=open_private) as file:
        file.write(text)
        os.fsync(file.fileno())
    return path, text


def _take_nonce(path: str) -> bool:
    """Remove it, and what was put beside it; was there anything?"""
    answer = f"{path}.seen"
    found = os.path.exists(answer)
    for each in (path, answer):
        with contextlib.suppress(OSError):
            os.unlink(each)
    return found
