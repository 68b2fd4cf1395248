"""Deferred functions: what is to be done after an attempt, on its host, however it ended.

An attempt writes each call into a file of its own before `context().defer` returns, in `Place.deferred`. Once nothing
of the attempt runs any more, or when a later agent finds the file, the agent runs `command(file, store)` and then
deletes the file. So each call is made at least once, in the order in which they were deferred.

The file is a sequence of records, each a length, a checksum and as many bytes, synced one by one. The first says where
the calls are to be made; the others are pickled calls. A record that was cut off by a crash was never promised.

Light to import: agents use it.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from orch.agent.tags import NAME
from orch.environment import inherited, is_secret, packed, unpacked
from orch.errors import JobError
from orch.store.private import make_private, open_private
from orch.work.surroundings import scratch_name

_HEADER = struct.Struct("!QI")


class Scene(msgspec.Struct, frozen=True):
    """The first record: where calls are made.

    Of the environment only what differs from the run's is written down, and of that nothing that looks like a secret.
    """

    label: str
    bundle: str
    cwd: str
    environment: dict[str, str]
    python_path: list[str]


# For agents -------------------------------------------------------------------------------------------------------


def pending(directory: Path | str) -> list[Path]:
    """The files of attempts that have deferred something; also of those that still run."""
    try:
        return sorted(Path(directory, name) for name in os.listdir(directory))
    except FileNotFoundError:
        return []


def file_of(directory: Path | str, key: str) -> Path:
    """The file of that attempt, be there one or not."""
    return Path(directory, scratch_name(key))


def command(path: Path | str, store: Path | str) -> list[str]:
    """The program that makes the calls in a file, in the environment of the run. What goes wrong is on its stderr."""
    return [sys.executable, "-P", "-m", "orch.work.deferred", str(path), str(store)]


# For attempts -----------------------------------------------------------------------------------------------------


def pickled_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """A call as bytes. Raises `JobError`."""
    from orch.authoring.functions import JobFunction
    from orch.authoring.pickling import dumps

    if isinstance(function, JobFunction):
        function = function.__wrapped__ if function.by_name() is None else function.by_name()
    if not callable(function):
        raise JobError(f"defer: {function!r:.80} cannot be called")
    try:
        data, jobs = dumps((function, args, kwargs), function)
    except Exception as error:  # user code in __reduce__ may raise anything
        raise JobError(f"defer: the call cannot be stored: {error}") from error
    if jobs:
        raise JobError(f"defer: job {jobs[0].label} stands in the arguments, and there will be no value in its place")
    return data


class Deferred:
    """The file of one attempt, made when the first call comes. Raises `OSError`."""

    def __init__(self, directory: str, key: str, scene: Scene) -> None:
        self._path = file_of(directory, key)
        self._scene = scene
        self._file = -1

    def add(self, call: bytes) -> None:
        """Make a pickled call durable."""
        if self._file < 0:
            self._open()
        self._write(call)

    def close(self) -> None:
        """Nothing more comes. What is in the file stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        make_private(str(self._path.parent))
        self._file = open_private(str(self._path), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        whole = sum(_HEADER.size + len(record) for record in read_records(self._path))
        os.ftruncate(self._file, whole)
        if not whole:
            self._write(msgspec.msgpack.encode(self._scene))
        for directory in (self._path.parent, self._path.parent.parent):  # its own name may be new as well
            _sync(directory)

    def _write(self, record: bytes) -> None:
        view = memoryview(_HEADER.pack(len(record), zlib.crc32(record)) + record)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def scene(label: str, bundle: str, cwd: str) -> Scene:
    """What surrounds calls that are deferred now. `cwd` empty: here."""
    changed = {
        name: value
        for name, value in os.environ.items()
        if inherited.get(name) != value and name not in ("TMPDIR", NAME) and not is_secret(name)
    }  # TMPDIR and NAME are the attempt's own, and nobody's once it is over
    return Scene(label, bundle, cwd or os.getcwd(), packed(changed), list(sys.path))


def read_records(path: Path | str) -> Iterator[bytes]:
    """The records of a file, up to the first that is not whole."""
    data = Path(path).read_bytes()
    at = 0
    while len(data) - at >= _HEADER.size:
        length, checksum = _HEADER.unpack_from(data, at)
        record = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(record) < length or zlib.crc32(record) != checksum:
            return
        yield record
        at += _HEADER.size + length


# The program ------------------------------------------------------------------------------------------------------


def main(path: str, store: str) -> None:
    """Make the calls in the file at `path`, in order; a call that fails does not keep the others from being made."""
    records = list(read_records(path))
    if not records:
        return
    found = msgspec.msgpack.decode(records[0], type=Scene)
    os.environ.update(unpacked(found.environment))
    sys.path.extend(each for each in found.python_path if each not in sys.path)
    _enter(found)
    _load(found, store)
    for number, record in enumerate(records[1:], 1):
        _make(record, f"deferred function {number} of {found.label}")


def _enter(found: Scene) -> None:
    try:
        os.chdir(found.cwd)
    except OSError as error:
        _say(
            f"deferred functions of {found.label} run in {os.getcwd()}: {found.cwd} cannot be entered: {error.strerror}"
        )


def _load(found: Scene, store: str) -> None:
    from orch.errors import OrchError
    from orch.store.layout import bundle_dir
    from orch.work.loader import load

    if not found.bundle:
        return
    try:
        load(os.path.join(store, bundle_dir(found.bundle)))
    except OrchError as error:  # each call will say what it lacks
        _say(f"deferred functions of {found.label}: {error}")


def _make(record: bytes, what: str) -> None:
    from orch.authoring.pickling import loads
    from orch.work.execute import call_function
    from orch.work.traces import short_trace

    try:
        function, args, kwargs = loads(record, lambda *_: None)
        call_function(function, args, kwargs)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, sys.exit among it
        _say(f"{what} failed:\n{short_trace(error)}")
    sys.stdout.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the agent passes it on


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
