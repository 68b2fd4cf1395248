"""The store in a directory, local or shared: `file:PATH`.

A file is written under a temporary name in its directory, synced, given its name, and the directory synced. So a
reader sees a whole file or none, also after a crash, and a name that was returned is durable. What a crash leaves is a
temporary file, which `list` does not show and `leftovers` does.

Paths are relative to the store's root, with "/" between the parts (see `orch.store.layout`). Every `OSError` becomes a
`StoreError`, or a `NoSuchFile`, here and only here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from orch.bus.events import StoredFile
from orch.errors import NoSuchFile, StoreError
from orch.store.disk import Disk, write_all
from orch.store.tree import Entry, digest_of, walk
from orch.store.trial import try_out

FORMAT = 1
"""Version of the layout, kept in `orch.json`."""

MARKER = "orch.json"
TEMPORARY = ".orch-tmp-"
"""How names begin that mean nothing yet, or nothing any more."""

_CHUNK = 1024 * 1024


class FileStore:
    """A store in the directory `root`. Synchronous; safe for any number of threads, processes and hosts."""

    def __init__(self, root: Path | str, disk: Disk | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        self._disk = disk or Disk()
        self._tried = False

    def __repr__(self) -> str:
        return f"FileStore({str(self.root)!r})"

    # The store itself -----------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the store if it is not there. Raises `StoreError` if it cannot be made, or is of a newer format."""
        with _translated("create the store", str(self.root)):
            try:
                self._make_directories(self.root, sync=True, root=True)
            except (
                FileNotFoundError
            ) as error:  # the kernel's word for a file system that takes no directories, as /proc
                there = next(one for one in self.root.parents if one.is_dir())
                raise StoreError(
                    f"could not create the store {self.root}: no directory can be made in {there}"
                ) from error
        if self.exists(MARKER):
            self._check_format()
        else:
            self.write_bytes(MARKER, msgspec.json.encode({"format": FORMAT}) + b"\n")

    def check(self) -> None:
        """Try whether it does what a run rests on. Raises `StoreError`: what failed, why it matters, what to do.

        Once is enough: who starts a thousand runs does not try a thousand times.
        """
        if not self._tried:
            try_out(self.root, self._disk, lambda: self._temporary(self.root))
            self._tried = True

    # Writing --------------------------------------------------------------------------------------------------

    def write_bytes(self, path: str, data: bytes, *, executable: bool = False, sync: bool = True) -> str:
        """Store `data` at `path`, in the place of what was there; its digest ("sha256:…")."""
        target = self.local_path(path)
        with _translated("write", self._name(path)):
            self._write(target, (data,), executable=executable, sync=sync)
        return _digest(data)

    def put_file(self, path: str, source: Path | str, *, sync: bool = True) -> StoredFile:
        """Copy the file `source` to `path`, its executable bit too; the copy is read-only."""
        target = self.local_path(path)
        with _translated("put into the store", str(source)):
            opened, executable = _open_regular(Path(source))
        with opened, _translated(f"copy {source} to", self._name(path)):
            chunks = _Hashed(opened)
            self._write(target, chunks, executable=executable, sync=sync, final=_read_only(executable))
        return StoredFile(path=path, size=chunks.size, digest=chunks.digest())

    def put_directory(self, path: str, source: Path | str, *, sync: bool = True) -> StoredFile:
        """Copy the directory `source` to `path`, all of it at once.

        Symbolic links that lead to something inside `source` are replaced by it, others are refused, and so is what
        is neither file nor directory. Where `path` holds the same contents already, that is left as it is; other
        contents are never replaced. The files are read-only. The digest covers names, contents and executable bits.
        """
        target = self.local_path(path)
        with _translated("read the directory", str(source)):
            entries = list(walk(Path(source)))
        with _translated(f"copy {source} to", self._name(path)):
            self._make_directories(target.parent, sync=sync)
            temporary = self._temporary(target.parent)
            try:
                copied = self._copy_tree(entries, temporary, sync=sync)
                digest, size = digest_of(copied), sum(entry.size for entry in copied)
                self._settle(temporary, target, digest, sync=sync)
            except BaseException:  # Ctrl-C, too: no half copy is left behind
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return StoredFile(path=path, size=size, digest=digest, directory=True)

    def delete(self, path: str) -> None:
        """Remove the file or directory at `path`. Nothing there: fine."""
        target = self.local_path(path)
        with _translated("delete", self._name(path)):
            try:
                target.unlink(missing_ok=True)
            except (IsADirectoryError, PermissionError):  # POSIX lets unlink of a directory fail with either
                if target.is_symlink() or not target.is_dir():
                    raise
                self.delete_tree(path)
            except NotADirectoryError:
                return

    def delete_tree(self, path: str) -> None:
        """Remove the directory at `path` with all that is in it; it vanishes at once. Nothing there: fine."""
        target = self.local_path(path)
        with _translated("delete", self._name(path)):
            temporary = self._temporary(target.parent)
            try:
                self._disk.rename(target, temporary)
            except (FileNotFoundError, NotADirectoryError):
                return
            shutil.rmtree(temporary)

    # Reading --------------------------------------------------------------------------------------------------

    def read_bytes(self, path: str) -> bytes:
        """The contents. Raises `NoSuchFile` or `StoreError`."""
        target = self.local_path(path)
        with _translated("read", self._name(path)):
            return target.read_bytes()

    def open(self, path: str) -> BinaryIO:
        """The file, opened for reading. Raises `NoSuchFile` or `StoreError`."""
        target = self.local_path(path)
        with _translated("open", self._name(path)):
            return target.open("rb")

    def local_path(self, path: str) -> Path:
        """Where `path` is on this host, whether it exists or not. Raises `StoreError` for what leaves the store."""
        problem = _problem(path)
        if problem:
            raise StoreError(f"{path!r} is not a path inside a store: {problem}")
        return self.root / path

    def exists(self, path: str) -> bool:
        """Is there a file or directory?"""
        target = self.local_path(path)
        with _translated("look at", self._name(path)):
            try:
                target.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def size(self, path: str) -> int:
        """Length of the file in bytes. Raises `NoSuchFile` or `StoreError`."""
        target = self.local_path(path)
        with _translated("look at", self._name(path)):
            return target.stat().st_size

    def list(self, prefix: str = "") -> Iterator[str]:
        """Paths of all files in the directory `prefix` and below, in order; nothing if there is none."""
        yield from (path for path in self._files(prefix) if TEMPORARY not in path)

    def leftovers(self, prefix: str = "") -> Iterator[str]:
        """Temporary files and directories below `prefix`: of writers and deleters that died, or are still at it."""
        yield from (path for path in self._files(prefix) if TEMPORARY in path)

    # Inside ---------------------------------------------------------------------------------------------------

    def _name(self, path: str) -> str:
        return f"{path} in the store {self.root}"

    def _temporary(self, directory: Path) -> Path:
        return directory / f"{TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}"

    def _check_format(self) -> None:
        try:
            marker = msgspec.json.decode(self.read_bytes(MARKER), type=dict[str, int | str])
            version = marker["format"]
        except (ValueError, KeyError, RecursionError) as error:
            raise StoreError(f"{self.root / MARKER} cannot be read: is {self.root} a store of orch?") from error
        if version != FORMAT:
            raise StoreError(
                f"the store {self.root} has format {version}, and this version of orch reads format {FORMAT} only"
            )

    def _files(self, prefix: str) -> Iterator[str]:
        """Files below `prefix`. A temporary directory, whatever is in it, is one of them.

        Directories that vanish while they are walked are as good as empty.
        """
        waiting = [prefix.rstrip("/")]
        while waiting:
            current = waiting.pop()
            directory = self.local_path(current) if current else self.root
            with _translated("list", self._name(current or ".")):
                try:
                    with os.scandir(directory) as scan:
                        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan)
                except (FileNotFoundError, NotADirectoryError):
                    continue
            names = [
                (f"{current}/{name}" if current else name, is_directory and not name.startswith(TEMPORARY))
                for name, is_directory in found
            ]
            yield from (name for name, goes_on in names if not goes_on)
            waiting.extend(name for name, goes_on in reversed(names) if goes_on)

    def _make_directories(self, directory: Path, *, sync: bool, root: bool = False) -> None:
        """Make `directory` and what is missing above it; each new name is synced.

        The store itself is made by `create` alone (`root`): one that was moved must not come to life again, in part.
        """
        missing = []
        while not directory.is_dir():
            if directory == self.root and not root:
                raise StoreError(f"the store {self.root} is gone: it was moved or deleted")
            missing.append(directory)
            if directory.parent == directory:
                break
            directory = directory.parent
        for new in reversed(missing):
            try:
                self._disk.make_directory(new)
            except FileExistsError:
                if not new.is_dir():  # else another writer was faster
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
            if sync:
                self._disk.sync_directory(new.parent)

    def _write(
        self, target: Path, chunks: Iterable[bytes], *, executable: bool, sync: bool, final: int | None = None
    ) -> None:
        temporary = self._temporary(target.parent)
        mode = 0o700 if executable else 0o600
        try:
            descriptor = self._disk.create(temporary, mode)
        except FileNotFoundError:
            self._make_directories(target.parent, sync=sync)
            descriptor = self._disk.create(temporary, mode)
        try:
            self._fill(descriptor, chunks, sync=sync, final=final)
            self._disk.rename(temporary, target)
        except BaseException:  # Ctrl-C, too: no half file is left behind
            _remove_quietly(temporary)
            raise
        if sync:
            self._disk.sync_directory(target.parent)

    def _fill(self, descriptor: int, chunks: Iterable[bytes], *, sync: bool, final: int | None = None) -> None:
        """Write all chunks. `final`: the permissions to end with; writing comes first, for NFS asks at each write."""
        try:
            for chunk in chunks:
                write_all(self._disk, descriptor, chunk)
            if final is not None:
                self._disk.protect(descriptor, final)
            if sync:
                self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)

    def _copy_tree(self, entries: Iterable[Entry], root: Path, *, sync: bool) -> Sequence[Entry]:
        """Copy `entries`, parents first, to the new directory `root`; the entries as they were really read."""
        self._disk.make_directory(root)
        directories, copied = [root], []
        for entry in entries:
            target = root / entry.name
            if entry.directory:
                self._disk.make_directory(target)
                directories.append(target)
                copied.append(entry)
                continue
            opened, executable = _open_regular(entry.source)
            with opened:
                chunks = _Hashed(opened)
                descriptor = self._disk.create(target, 0o600)
                self._fill(descriptor, chunks, sync=sync, final=_read_only(executable))
            copied.append(msgspec.structs.replace(entry, size=chunks.size, digest=chunks.digest()))
        if sync:
            for directory in directories:
                self._disk.sync_directory(directory)
        return copied

    def _settle(self, temporary: Path, target: Path, digest: str, *, sync: bool) -> None:
        """Give the copy its name, unless the same is there already."""
        try:
            self._disk.rename(temporary, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if error.errno == errno.ENOTDIR or digest_of(_measured(target)) != digest:
                raise StoreError(f"{target} exists already, with other contents") from error
            shutil.rmtree(temporary)
        if sync:
            self._disk.sync_directory(target.parent)


class _Hashed:
    """The chunks of an open file, measured while they pass."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _measured(root: Path) -> Iterator[Entry]:
    """The entries of a directory, files read and measured."""
    for entry in walk(root):
        if entry.directory:
            yield entry
            continue
        with entry.source.open("rb") as file:
            chunks = _Hashed(file)
            for _ in chunks:
                pass
        yield msgspec.structs.replace(entry, size=chunks.size, digest=chunks.digest())


def _open_regular(source: Path) -> tuple[BinaryIO, bool]:
    """The file, opened, and whether it is executable. O_NONBLOCK: opening a named pipe must not wait for a writer."""
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb")  # refuses a directory with IsADirectoryError
    status = os.fstat(descriptor)
    if status.st_mode & 0o170000 != 0o100000:
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file, bool(status.st_mode & 0o100)


def _read_only(executable: bool) -> int:  # noqa: FBT001 - it is the question
    """Permissions of what never changes."""
    return 0o500 if executable else 0o400


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _problem(path: str) -> str:
    """Why `path` is not one inside a store; empty if it is."""
    if "\0" in path:
        return "it has a NUL character"
    if path.startswith("/"):
        return "it is absolute"
    parts = path.split("/")
    if ".." in parts:
        return "it has '..'"
    if "" in parts or "." in parts:
        return "it is empty or has an empty part"
    return ""


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _why(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _translated(verb: str, what: str) -> Iterator[None]:
    """Errors of the operating system become ours: what was tried, on what, and why it failed."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchFile(f"could not {verb} {what}: it does not exist") from error
    except OSError as error:
        hint = "; free some space and carry on" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StoreError(f"could not {verb} {what}: {_why(error)}{hint}") from error
