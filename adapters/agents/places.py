"""Which host each attempt was handed to, durable before the host hears of it.

    runs/RUN/hosts/EPOCH.jsonl      a line for each batch: {"host": NAME, "keys": [...]}

One file a leader. A leader may hand over what it has written here, and synced, if no later leader had begun by then.
A later leader, which has begun before it reads, so knows of all that any earlier one may still be handing over, and
where: it asks that host, whose agent then listens to nobody else. What is in no file was never handed over. The last
line that names an attempt counts; what a crash left of a line was not acted upon.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from orch.bus.errors import LogTrouble
from orch.bus.files import REAL
from orch.bus.segment import epochs
from orch.errors import Fenced, StoreError
from orch.store import layout
from orch.store.private import make_private, open_private

_SUFFIX = ".jsonl"


class _Line(msgspec.Struct, frozen=True):
    host: str
    keys: list[str]


class Places:
    """The places of one run's attempts. Blocking; used by a thread at a time, and closed while one is at it."""

    def __init__(self, store: str, run: str, epoch: int) -> None:
        self._store, self._run, self._epoch = store, run, epoch
        self._directory = os.path.join(store, layout.hosts_dir(run))
        self._file = -1
        self._guard = threading.Lock()
        self._closed = False

    def write(self, places: Mapping[str, Sequence[str]]) -> None:
        """Keys by host. Raises `Fenced` if a later leader has begun, `StoreError` if it cannot be written."""
        lines = [msgspec.json.encode(_Line(host, list(keys))) + b"\n" for host, keys in places.items()]
        with self._guard:
            try:
                self._write(memoryview(b"".join(lines)))
            except OSError as error:
                raise StoreError(f"{self._directory} cannot be written: {error.strerror or error}") from error
        self._check()

    def read(self, keys: Sequence[str]) -> dict[str, str]:
        """The host of each of these that was handed to one, by whichever leader. Raises `StoreError`."""
        wanted, found = set(keys), dict[str, str]()
        try:
            for path in self._files():
                for each in _lines(path):
                    found.update(dict.fromkeys(wanted.intersection(each.keys), each.host))
        except OSError as error:
            raise StoreError(f"{self._directory} cannot be read: {error.strerror or error}") from error
        return found

    def close(self) -> None:
        """Let go of the file."""
        with self._guard:
            self._closed = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _write(self, data: memoryview) -> None:
        if self._closed:  # nobody waits for it any more
            return
        if self._file < 0:
            self._file = self._open()
        while data:
            data = data[os.write(self._file, data) :]
        os.fdatasync(self._file)

    def _open(self) -> int:
        """This leader's file; its name is durable, too."""
        make_private(self._directory)
        path = os.path.join(self._directory, f"{self._epoch:06d}{_SUFFIX}")
        file = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if os.fstat(file).st_size:  # of this leader, by another session of its: half a line must not swallow the next
            os.write(file, b"\n")
        for directory in (self._directory, os.path.dirname(self._directory)):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return file

    def _check(self) -> None:
        latest = latest_epoch(self._store, self._run)
        if latest > self._epoch:
            raise Fenced(f"run {self._run} is led by epoch {latest}, and this is {self._epoch}")

    def _files(self) -> list[str]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return [os.path.join(self._directory, name) for name in sorted(names) if name.endswith(_SUFFIX)]


def latest_epoch(store: str, run: str) -> int:
    """The epoch of the latest leader that has begun. Raises `StoreError`."""
    try:
        return max(epochs(Path(store, layout.log_dir(run)), REAL), default=0)
    except LogTrouble as error:
        raise StoreError(str(error)) from error


def _lines(path: str) -> list[_Line]:
    with open(path, "rb") as file:
        found = []
        for line in file:
            try:
                found.append(msgspec.json.decode(line, type=_Line))
            except ValueError:  # cut by a crash: nothing was done about it
                continue
        return found
