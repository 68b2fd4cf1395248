"""Files between the leader's store and its mirror on a host, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import shutil
import stat
from pathlib import Path

import asyncssh

from orch.adapters.local import LinkCut
from orch.adapters.ssh.line import Line
from orch.errors import StoreError
from orch.store.file import TEMPORARY, FileStore

_STORED = re.compile(r"runs/[^/]+/(values|files|logs)/.+")
"""What a host may have put into the leader's store."""

_CUT = (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)


class Files:
    """`store` is the leader's, `mirror` is where that host has its own.

    Raises `LinkCut` where the connection is at fault.
    """

    def __init__(self, line: Line, store: str, mirror: str) -> None:
        self._line = line
        self._store = FileStore(store)
        self._mirror = mirror

    async def send(self, path: str) -> None:
        """Have a file or directory there. Raises `StoreError` where it is not here, `asyncssh.Error`."""
        name = f"{self._mirror}\0{path}"
        async with self._line.sending.setdefault(name, asyncio.Lock()):
            if name in self._line.pushed:
                return
            source = self._store.local_path(path)
            modes = await asyncio.to_thread(_modes, source)
            if not modes and not await asyncio.to_thread(source.is_dir):
                raise StoreError(f"{path} is not in the store {self._store.root}")
            try:
                await self._send(source, modes, posixpath.join(self._mirror, path))
            except _CUT as error:
                raise LinkCut("the connection is cut") from error
            self._line.pushed.add(name)
        self._line.sending.pop(name, None)

    def forgotten(self, directory: str) -> None:
        """What was in there is there no more."""
        gone = f"{self._mirror}\0{directory}/"
        self._line.pushed = {name for name in self._line.pushed if not name.startswith(gone)}

    async def _send(self, source: Path, modes: dict[str, int], target: str) -> None:
        sftp, is_directory = await self._line.sftp(), "" not in modes
        if is_directory and await sftp.exists(target):
            return
        directory = posixpath.dirname(target)
        draft = posixpath.join(directory, f"{TEMPORARY}{os.urandom(8).hex()}")
        await sftp.makedirs(directory, asyncssh.SFTPAttrs(permissions=0o700), exist_ok=True)
        await sftp.put(os.fspath(source), draft, recurse=is_directory)
        for name, mode in modes.items():
            if mode & 0o100 or not is_directory:
                await sftp.chmod(posixpath.join(draft, name) if name else draft, mode)
        try:
            await sftp.posix_rename(draft, target)
        except asyncssh.SFTPError:
            if not await sftp.exists(target):  # else another leader was faster
                raise

    async def fetch(self, path: str, digest: str) -> None:
        """Have a file or directory here, durable. Raises `StoreError` where it is not what it is said to be."""
        if not _STORED.fullmatch(path):
            raise StoreError(f"{path} is no place for what a job leaves behind")
        draft = self._store.local_path("/".join(path.split("/")[:2])) / f"{TEMPORARY}{os.urandom(8).hex()}"
        try:
            try:
                sftp = await self._line.sftp()
                remote = posixpath.join(self._mirror, path)
                await sftp.get(remote, os.fspath(draft), preserve=True, recurse=True)
            except _CUT as error:
                raise LinkCut("the connection is cut") from error
            stored = await asyncio.to_thread(self._keep, draft, path)
        finally:
            await asyncio.to_thread(_remove, draft)
        if digest and stored != digest:
            raise StoreError(f"{path} is not what was written on {self._line.name}: its digest differs")
        self._line.pushed.add(f"{self._mirror}\0{path}")

    def _keep(self, draft: Path, path: str) -> str:
        """Give it its name; its digest."""
        if draft.is_dir():
            return self._store.put_directory(path, draft).digest
        return self._store.put_file(path, draft).digest


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def _modes(source: Path) -> dict[str, int]:
    """The permissions of a file, or of the files of a directory by their names in it; nothing if it is not there."""
    if not source.is_dir():
        return {"": stat.S_IMODE(source.stat().st_mode)} if source.exists() else {}
    return {
        each.relative_to(source).as_posix(): stat.S_IMODE(each.stat().st_mode)
        for each in source.rglob("*")
        if each.is_file()
    }
