"""`--out`: where the files of a result go."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from orch.errors import SystemTrouble, UserError
from orch.files import DirRef, FileRef
from orch.store.file import FileStore
from orch.store.layout import safe_name

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def out_directory(text: str) -> Path:
    """The directory that `--out` names, checked before the run begins. Raises `UserError`."""
    match = _SCHEME.match(text)
    if match and match[1].lower() != "file":
        raise UserError(f"--out {text}: only a directory or a file: URL can be exported to (for a directory: ./{text})")
    path = _url_path(text) if match else text
    if not path:
        raise UserError("--out names no directory")
    directory = Path(path).expanduser().absolute()
    check_directory(directory, f"--out {text}")
    return directory


def _url_path(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    split = urlsplit(url)
    if split.netloc not in ("", "localhost"):
        raise UserError(f"--out {url}: names another host; a local directory is file:///path")
    return unquote(split.path)


def check_directory(directory: Path, what: str) -> None:
    """It is a writable directory, or can be made. Nothing of it is made yet: the run may never get that far.

    Permissions do not say all: some file systems refuse even root. So something is made there, and removed.
    Raises `UserError`, which begins with `what`.
    """
    there = directory
    while not os.path.lexists(there) and there.parent != there:
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{what}: {there} is not a directory")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".orch-", dir=there))
    except OSError as error:
        why = "nothing can be made there" if error.errno == errno.ENOENT else error.strerror or error
        raise UserError(f"{what}: {there} cannot be written to: {why}") from error


class Exporter:
    """Copies files out of the store into `directory`, once each, under their own names.

    Two files of one result with the same name are numbered: "out.txt", "out-2.txt". What an earlier export left under
    a name is replaced.
    """

    def __init__(self, store: FileStore, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._placed: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, ref: FileRef | DirRef) -> str:
        """Export; the final path."""
        if ref.path not in self._placed:
            self._placed[ref.path] = str(self._export(ref, self._directory / self._name(ref.plain_name)))
        return self._placed[ref.path]

    def _name(self, wanted: str) -> str:
        stem, suffix = os.path.splitext(wanted)
        name, number = stem + suffix, 2
        while name in self._taken:
            name, number = f"{stem}-{number}{suffix}", number + 1
        self._taken.add(name)
        return name

    def _export(self, ref: FileRef | DirRef, target: Path) -> Path:
        from orch.work.transfer import export

        aside = target.with_name(f".{safe_name(target.name)}.{os.getpid()}.old")
        try:
            if target.is_dir() and not target.is_symlink():
                target.rename(aside)
            return export(self._store.local_path(ref.path), ref, target)
        except (UserError, OSError) as error:
            raise SystemTrouble(f"the run has succeeded, but --out failed: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
