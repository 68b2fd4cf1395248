"""Copies between the store and the world: fetch a URL or path, export a stored file atomically."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from orch.errors import JobError, UserError
from orch.files import DirRef, FileRef
from orch.store.layout import safe_name
from orch.work.staging import checked, stage


def fetched(url_or_path: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """A local file with the contents; a download is removed at the end. Raises `UserError`, at the call.

    Not a generator as a whole: its frames of `contextlib` would stand in tracebacks.
    """
    text = os.fspath(url_or_path)
    scheme = text.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return _downloaded(text)
    if scheme == "file":
        return contextlib.nullcontext(_readable(_path_of(text)))
    if "://" in text:
        raise UserError(f"cannot import {text}: only paths and file:, http: and https: URLs are known")
    return contextlib.nullcontext(_readable(Path(text)))


def _downloaded(url: str) -> AbstractContextManager[Path]:
    directory = tempfile.TemporaryDirectory(prefix="orch-fetch-")
    try:
        return _held(directory, _download(url, Path(directory.name)))
    except BaseException:
        directory.cleanup()
        raise


@contextlib.contextmanager
def _held(directory: tempfile.TemporaryDirectory[str], file: Path) -> Iterator[Path]:
    with directory:
        yield file


def _path_of(url: str) -> Path:
    from urllib.parse import unquote, urlsplit

    split = urlsplit(url)
    if split.netloc not in ("", "localhost"):
        raise UserError(f"cannot import {url}: it names another host; a local file is file:///path")
    return Path(unquote(split.path))


def _readable(path: Path) -> Path:
    """`path`, made absolute, if it is a file that can be read."""
    path = Path(os.path.abspath(path))
    if path.is_dir():
        raise UserError(f"cannot import {path}: it is a directory (in a job, context().write_dir takes one)")
    if not path.exists():
        raise UserError(f"cannot import {path}: no such file")
    if not os.access(path, os.R_OK):
        raise UserError(f"cannot import {path}: it may not be read by this user")
    return path


def _download(url: str, directory: Path) -> Path:
    from urllib.error import URLError
    from urllib.parse import unquote, urlsplit
    from urllib.request import urlopen

    name = Path(unquote(urlsplit(url).path)).name or "download"
    target = directory / name
    try:
        with urlopen(url, timeout=60) as source, target.open("wb") as file:  # noqa: S310 - http only
            shutil.copyfileobj(source, file, 1024 * 1024)
            missing = int(source.headers.get("Content-Length") or 0) - file.tell()
    except (URLError, OSError, ValueError) as error:
        raise UserError(f"cannot import {url}: {error}") from error
    if missing > 0:
        raise UserError(f"cannot import {url}: the connection ended {missing} bytes too early")
    return target


def export(source: Path, ref: FileRef | DirRef, path: str | os.PathLike[str]) -> Path:
    """Copy out of the store, under a temporary name first. Raises `UserError`."""
    text = os.fspath(path)
    if text.startswith("file:"):
        text = str(_path_of(text))
    target = Path(os.path.abspath(text))
    if text.endswith("/") or target.is_dir():
        target /= ref.plain_name
    temporary = target.parent / f".{safe_name(target.name)}.{os.urandom(6).hex()}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage(checked(source, ref), ref, temporary, mutable=True, private=False)
        temporary.rename(target)
    except (OSError, JobError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise UserError(f"cannot export {ref.name!r} to {target}: {why}") from error
    finally:
        _remove(temporary)
    return target


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # it was never made
            path.unlink()
