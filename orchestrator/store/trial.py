"""Does a directory do what a run rests on? It is tried there, for file systems differ, and some only seem to do it."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from orch.errors import StoreError
from orch.store.disk import Disk, write_all

_OLD, _NEW = b"old\n" * 1000, b"and new\n" * 1000

_WHOLE = "without that, a reader may find no file, or half of one"
_DURABLE = "without that, a crash loses what counts as done"
_ONE_WRITER = "without that, two leaders may write one log"
_ADVICE = {
    errno.EROFS: "mount it for writing",
    errno.EACCES: "its owner has to let this user write there",
    errno.EPERM: "its owner has to let this user write there",
    errno.ENOENT: "see whether its file system is mounted",
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
}


def try_out(root: Path, disk: Disk, temporary: Callable[[], Path]) -> None:
    """Write, sync, read, replace and remove files in `root`.

    Raises `StoreError`, which says what failed, why it matters, and what to do. `temporary` gives names of files that
    mean nothing; none of them is left, unless this process is killed meanwhile.
    """
    trial = _Trial(root, disk)
    probe, final = temporary(), temporary()
    try:
        trial.write(final, _OLD, sync=True)
        trial.sync_names()
        trial.is_exclusive(final)
        trial.replace(probe, final)
        trial.remove(final)
    finally:
        for left in (probe, final):
            with contextlib.suppress(OSError):
                left.unlink()


class _Trial:
    """The steps, each of which says what is wrong if it fails."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk

    def write(self, path: Path, data: bytes, *, sync: bool) -> None:
        with self._step("create a file", "a run records there all that it does"):
            descriptor = self._disk.create(path, 0o600)
        try:
            with self._step("write to a file", "a run records there all that it does"):
                write_all(self._disk, descriptor, data)
            if sync:
                with self._step("sync a file", _DURABLE):
                    self._disk.sync(descriptor)
        finally:
            with self._step("close a file", _DURABLE):
                self._disk.close(descriptor)
        self._must_hold(path, data, "a file does not hold what was written to it", "values are read from there")

    def is_exclusive(self, path: Path) -> None:
        try:
            with self._step("create a file", _ONE_WRITER, besides=FileExistsError):
                self._disk.close(self._disk.create(path, 0o600))
        except FileExistsError:
            return
        raise self._fault("a file that exists can be created again", _ONE_WRITER)

    def replace(self, probe: Path, final: Path) -> None:
        """The old contents by the new, while a thread reads: that a file never vanishes can only be seen by looking."""
        self.write(probe, _NEW, sync=False)
        with _reading(final) as seen, self._step("rename a file in the place of another", _WHOLE):
            self._disk.rename(probe, final)
        self._must_hold(final, _NEW, "a file that was put in the place of another one is not there", _WHOLE)
        if seen - {_OLD, _NEW}:
            raise self._fault("while a file is replaced, a reader finds none, or half of one", "renaming is not atomic")

    def sync_names(self) -> None:
        with self._step("sync the directory", _DURABLE):
            self._disk.sync_directory(self._root)

    def remove(self, path: Path) -> None:
        with self._step("remove a file", "what is not needed any more is deleted"):
            path.unlink()

    def _must_hold(self, path: Path, data: bytes, otherwise: str, matters: str) -> None:
        with self._step("read a file", matters):
            found = path.read_bytes()
        if found != data:
            raise self._fault(otherwise, matters)

    def _fault(self, what: str, matters: str) -> StoreError:
        return StoreError(
            f"the store {self._root} cannot be used: {what} ({matters}); such a file system cannot hold a store"
        )

    @contextlib.contextmanager
    def _step(self, what: str, matters: str, besides: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        try:
            yield
        except besides:
            raise
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "see what the system's log says about its file system")
            raise StoreError(
                f"the store {self._root} cannot be used: could not {what} there: {error.strerror or error} "
                f"({matters}); {advice}"
            ) from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[set[bytes | None]]:
    """Reads a file again and again during the block; gives what was found, None for no file. It is whole afterwards."""
    seen: set[bytes | None] = set()
    begun, ended = threading.Event(), threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                seen.add(path.read_bytes())
            except FileNotFoundError:
                seen.add(None)
            except OSError:  # says nothing about renaming
                pass
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    try:
        yield seen
    finally:
        ended.set()
        reader.join()
