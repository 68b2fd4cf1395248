"""References to files in the store, and the two functions that bring files in and out.

A `FileRef` is a value like others: it is passed between jobs, returned, and put into texts. `str(ref)` survives JSON
and command lines, and `FileRef.parse` reads it again.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, ClassVar, Self

from orch.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class _Ref:
    """`path` is where the store has it, `name` what it was called; size in bytes; digest "sha256:…"."""

    name: str
    path: str
    size: int = 0
    digest: str = ""

    PREFIX: ClassVar[str] = ""

    def __str__(self) -> str:
        from urllib.parse import quote, urlencode

        fields = {name: value for name, value in self._fields().items() if value}
        return f"{self.PREFIX}{quote(self.path)}?{urlencode(fields, quote_via=quote)}"

    @property
    def plain_name(self) -> str:
        """`name` as the name of a file: without a directory, and "file" where nothing is left.

        A reference can be written by hand, or read from a text: its name may be anything.
        """
        last = self.name.rpartition("/")[2]
        return "file" if last in ("", ".", "..") or "\0" in last else last

    def _fields(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "digest": self.digest}

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reference that `str()` gave. Raises `UserError`."""
        from urllib.parse import parse_qsl, unquote, urlsplit

        if not text.startswith(cls.PREFIX):
            raise UserError(f"{text!r} is not the text of a {cls.__name__}, which begins with {cls.PREFIX!r}")
        split = urlsplit(text[len(cls.PREFIX) :], scheme="")
        try:
            fields: dict[str, Any] = dict(parse_qsl(split.query, keep_blank_values=True, strict_parsing=True))
            fields["size"] = int(fields.get("size", 0))
            if "executable" in fields:
                fields["executable"] = fields["executable"] == "1"
            return cls(path=unquote(split.path), **fields)
        except (TypeError, ValueError) as error:
            raise UserError(f"{text!r} is not the text of a {cls.__name__}: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class FileRef(_Ref):
    """A file in the store, immutable."""

    executable: bool = False

    PREFIX: ClassVar[str] = "orch-file:"

    def _fields(self) -> dict[str, Any]:
        return {**_Ref._fields(self), "executable": "1" if self.executable else ""}

    __str__ = _Ref.__str__  # dataclass(slots=True) makes a new class, in which super() would not work


@dataclasses.dataclass(frozen=True, slots=True)
class DirRef(_Ref):
    """A directory in the store, immutable. `size` is the sum of its files."""

    PREFIX: ClassVar[str] = "orch-dir:"

    __str__ = _Ref.__str__


def parse_ref(text: str) -> FileRef | DirRef:
    """The text of a file or directory as a reference. Raises `UserError`."""
    return DirRef.parse(text) if text.startswith(DirRef.PREFIX) else FileRef.parse(text)


def import_file(url_or_path: str | os.PathLike[str], name: str | None = None) -> FileRef:
    """Copy a file into the store: a path, or a `file:`, `http:` or `https:` URL.

    Inside a job or a workflow function only. Relative paths start at the directory in which the run was started.
    Raises `UserError` for a file that is missing, is a directory, or cannot be read.
    """
    from orch.work.context import current
    from orch.work.transfer import fetched

    context = current("orch.import_file")
    with fetched(url_or_path) as source:
        return context.store_file(source, name or source.name)


def export_file(ref: FileRef | DirRef, path: str | os.PathLike[str]) -> Path:
    """Copy a file or directory out of the store to `path`, atomically; where it is then.

    `path` may be a directory that exists, or end in "/": then the name is kept. Missing directories are made. A file
    that is there is replaced, a directory is not. Raises `UserError`.
    """
    from orch.work.context import current
    from orch.work.transfer import export

    return export(current("orch.export_file").local_path(ref), ref, path)
