"""The files by which a leader and its pilots know of each other, in the spool of their run.

    runs/RUN/batch/pilots/           0700
        secret                       32 bytes of chance, 0600: who can read it takes part
        NAME/address                 where the pilot listens (an `Address`)
        NAME/journal                 what it was given, and how that ended, until a leader has it (`orch.agent.journal`)

The secret is durable before a pilot is handed over, the address appears whole. Neither is ever changed.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import shutil

import msgspec

from orch.agent.journal import Journal
from orch.agent.storage import StoredFile
from orch.attempt import Outcome
from orch.store.private import make_private, open_private
from orch.worker.spool import Spool

SECRET = 32


class PilotOrders(msgspec.Struct, frozen=True):
    """What a pilot is told: the body of its attempt, as JSON. `idle`: seconds for which it stays when nobody needs it.

    `address`: where it listens: a numerical address of its node, the name of an interface; empty: all.
    """

    idle: float
    address: str = ""


class Address(msgspec.Struct, frozen=True):
    """Where a pilot listens: any of `names` and the port. `runtime`: its directory, which a leader has to name.

    `since`: when it began; `until`: when it ends; seconds since 1970 by its own clock; 0: nobody knows.
    """

    names: list[str]
    port: int
    runtime: str
    host: str
    since: float
    until: float = 0.0


class PilotFiles:
    """Those of one run. Blocking; raises `OSError`, and `ValueError` for a file that is none of ours."""

    def __init__(self, spool: Spool) -> None:
        self.root = os.path.join(spool.root, "pilots")
        self._store = spool.store

    def directory(self, name: str) -> str:
        """Of a pilot."""
        return os.path.join(self.root, name)

    def names(self) -> list[str]:
        """Of all pilots that have begun, and may have left something."""
        try:
            return sorted(name for name in os.listdir(self.root) if os.path.isdir(self.directory(name)))
        except FileNotFoundError:
            return []

    def make_secret(self) -> None:
        """Have one, durably. Of two leaders that make one, the first counts."""
        make_private(self.root)
        target, draft = os.path.join(self.root, "secret"), os.path.join(self.root, f".secret.{os.urandom(8).hex()}")
        if os.path.exists(target):
            return
        try:
            _write(draft, os.urandom(SECRET))
            with contextlib.suppress(FileExistsError):
                os.link(draft, target)
        finally:
            os.unlink(draft)
        _sync(self.root)
        _sync(os.path.dirname(self.root))

    def secret(self, name: str) -> bytes:
        """That of one pilot, so that none can pass for another."""
        with open(os.path.join(self.root, "secret"), "rb") as file:
            common = file.read()
        if len(common) != SECRET:
            raise ValueError(f"{file.name} is not {SECRET} bytes long")
        return hmac.digest(common, b"orch pilot\0" + os.fsencode(name), "sha256")

    def write_address(self, name: str, address: Address) -> None:
        """Say where it listens: whole, and durable."""
        directory = self.directory(name)
        draft = os.path.join(directory, ".address")
        _write(draft, msgspec.msgpack.encode(address))
        os.rename(draft, os.path.join(directory, "address"))
        _sync(directory)

    def address(self, name: str) -> Address | None:
        """Where it listens, once it does."""
        path = os.path.join(self.directory(name), "address")
        try:
            with open(path, "rb") as file:
                return msgspec.msgpack.decode(file.read(), type=Address)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error

    def journal(self, name: str) -> StoredFile:
        """The file of its journal, for the pilot itself."""
        make_private(self.directory(name))
        return StoredFile(os.path.join(self.directory(name), "journal"), self._store)

    def ends(self, name: str) -> dict[str, Outcome]:
        """Of a pilot that is over: the outcomes that no leader had taken in, as far as they were written."""
        try:
            with open(os.path.join(self.directory(name), "journal"), "rb") as file:
                journal = Journal(_ReadOnly(file.read()), "", 0)
        except FileNotFoundError:
            return {}
        return {key: entry.outcome for key, entry in journal.outstanding.items() if entry.outcome is not None}

    def remove(self, name: str) -> None:
        """Nobody needs to know any more what it did."""
        shutil.rmtree(self.directory(name), ignore_errors=True)

    def remove_all(self) -> None:
        """There are no pilots any more, and nobody waits for what they have done."""
        shutil.rmtree(self.root, ignore_errors=True)


class _ReadOnly:
    """A journal that is only looked at."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def load(self) -> bytes:
        """What there is."""
        return self._data

    def append(self, data: bytes) -> int:
        """Nothing is written."""
        return len(data)

    def truncate(self, length: int) -> None:
        """As above."""

    def sync(self) -> None:
        """As above."""

    def replace(self, data: bytes) -> None:
        """As above."""

    def close(self) -> None:
        """As above."""


def _write(path: str, data: bytes) -> None:
    with open(path, "wb", opener=open_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
