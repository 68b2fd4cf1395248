"""An ssh server in this process, on loopback, whose commands run as this user with a home of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh


class Sshd:
    """`cut` hangs up on everybody, and lets nobody in until `mend`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir(parents=True)
        self.noise = b""
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LOGIN_ONLY": "1", "LANG": "C"}
        self.commands = 0
        self.port = 0
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._user = asyncssh.generate_private_key("ssh-ed25519")
        self._connections: list[asyncssh.SSHServerConnection] = []
        self._open = True
        self.config, self.known_hosts, self.key = root / "config", root / "known_hosts", root / "key"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have it."""
        self._user.write_private_key(self.key)
        self._user.write_public_key(self.root / "authorized")
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Server(self),
            server_host_keys=[self._key],
            authorized_client_keys=str(self.root / "authorized"),
            process_factory=self._run,
            sftp_factory=True,
            encoding=None,
        )
        self.port = server.get_port()
        public = self._key.export_public_key().decode().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")
        self.config.write_text(
            f"Host there*\n  HostName 127.0.0.1\n  Port {self.port}\n  User me\n  IdentityFile {self.key}\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
        )
        try:
            yield
        finally:
            self.cut()
            server.close()
            await server.wait_closed()

    def cut(self) -> None:
        """Hang up."""
        self._open = False
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    def mend(self) -> None:
        """Let them in again."""
        self._open = True

    def let_in(self, connection: asyncssh.SSHServerConnection) -> None:
        """Somebody has come."""
        if self._open:
            self._connections.append(connection)
        else:
            connection.abort()

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.commands += 1
        if self.noise:
            process.stdout.write(self.noise)
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command or "",
            env=self.environment,
            cwd=self.home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        feeding = asyncio.create_task(_feed(process, child.stdin))
        try:
            await asyncio.gather(_pass_on(child.stdout, process.stdout), _pass_on(child.stderr, process.stderr))
            code = await child.wait()
            with contextlib.suppress(OSError):
                process.exit(code)
        finally:
            feeding.cancel()
            child.stdin.close()
            await asyncio.gather(feeding, child.wait(), return_exceptions=True)


async def _feed(process: asyncssh.SSHServerProcess[bytes], target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await process.stdin.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    while data := await source.read(1 << 16):
        with contextlib.suppress(OSError):  # whoever asked has gone
            target.write(data)


class _Server(asyncssh.SSHServer):
    def __init__(self, owner: Sshd) -> None:
        self._owner = owner

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Told by asyncssh."""
        self._owner.let_in(conn)
