"""Stored files as programs get them: a link or a copy that is theirs, never the store's own path.

A file of the store is read-only and never changes. What removes, renames or replaces "its" file does that to a link in
the scratch directory. Permissions do not bind root, so root gets copies, unless they are large.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from orch.errors import JobError, UserError
from orch.files import DirRef, FileRef
from orch.store.private import make_private

PRIVATE_LIMIT = 64 * 1024 * 1024
"""Up to how many bytes root gets a copy of what it should only read."""

Print = tuple[tuple[str, int, int, int], ...]
"""What tells a staged file or tree from one that was changed since: names, inodes, sizes, times of change."""


def bound_by_permissions() -> bool:
    """Does a read-only file really protect what is in it from this process?"""
    return os.geteuid() != 0


def checked(source: Path, ref: FileRef | DirRef) -> Path:
    """`source`, if it is as large as what was stored. Raises `JobError`. A file costs one look, a directory one each.

    A reference without a digest was not made by a store, and says nothing about the size.
    """
    if not ref.digest:
        return source
    is_directory = source.is_dir()
    if is_directory != isinstance(ref, DirRef):
        found = "a directory" if is_directory else "a file"
        raise JobError(f"{ref.name!r} was changed after it was stored: {source} is {found} now; {_REMEDY}")
    size = sum(path.stat().st_size for path in _files(source)) if is_directory else source.stat().st_size
    if size != ref.size:
        raise JobError(
            f"{ref.name!r} was changed after it was stored: {source} has {size} bytes, and {ref.size} were written; "
            f"{_REMEDY}"
        )
    return source


_REMEDY = "something wrote into the store, so this run cannot use the file: start a new run"


def stage(source: Path, ref: FileRef | DirRef, target: Path, *, mutable: bool, private: bool = True) -> Path:
    """Put a stored file where a program looks for it, to be read only; with `mutable`, a copy that may be changed.

    What is made is for this user only; without `private`, as the umask has it.
    """
    if os.path.lexists(target):
        raise UserError(f"cannot put {ref.name!r} at {target}: something is there already")
    _make(target.parent, private=private)
    copied = mutable or (not bound_by_permissions() and ref.size <= PRIVATE_LIMIT)
    if not source.is_dir():
        _place(source, target, copied=copied, private=private)
        return target
    _make(target, private=private)
    for path in _entries(source):
        own = target / path.relative_to(source)
        if path.is_dir():
            _make(own, private=private)
        else:
            _place(path, own, copied=copied, private=private)
    return target


def fingerprint(path: Path) -> Print:
    """What changes when a staged file or directory is written to, replaced or removed."""
    found = []
    entries = _entries(path) if path.is_dir() and not path.is_symlink() else iter(())
    for entry in (path, *sorted(entries)):
        with contextlib.suppress(OSError):
            status = entry.lstat()
            found.append((str(entry), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _make(directory: Path, *, private: bool) -> None:
    if private:
        make_private(str(directory))
    else:
        directory.mkdir(parents=True, exist_ok=True)


def _place(source: Path, target: Path, *, copied: bool, private: bool) -> None:
    if not copied:
        target.symlink_to(source)
        return
    with source.open("rb") as reading:
        mode = 0o777 if os.fstat(reading.fileno()).st_mode & 0o100 else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writing = os.open(target, flags, mode & 0o700 if private else mode)
        try:
            _copy(reading.fileno(), writing)
        finally:
            os.close(writing)


def _copy(reading: int, writing: int) -> None:
    """All bytes; inside the kernel where it can, which on some file systems shares the blocks."""
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):  # two file systems, or one that cannot: what is left is copied plainly
            while os.copy_file_range(reading, writing, 1 << 30):
                pass
    with os.fdopen(os.dup(reading), "rb") as source, os.fdopen(os.dup(writing), "wb") as target:
        shutil.copyfileobj(source, target, 1024 * 1024)


def _entries(root: Path) -> Iterator[Path]:
    """Everything below a directory, parents first."""
    for directory, names, files in os.walk(root):
        yield from (Path(directory, name) for name in (*names, *files))


def _files(root: Path) -> Iterator[Path]:
    return (path for path in _entries(root) if not path.is_dir())
