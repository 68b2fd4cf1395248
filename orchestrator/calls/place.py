"""Where the index is: on a disk of this host, below the user's cache directory, for this user only."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from orch.bus.identity import whoami
from orch.errors import StoreError
from orch.store.private import make_private

VERSION = 1
"""Of the database. Another version of orch has another file."""

_REMOTE = re.compile(
    r"9p|afs|beegfs|ceph|cifs|fuse\.(glusterfs|sshfs)|gfs2|glusterfs|gpfs|lustre|nfs4?|ocfs2|orangefs|panfs|pvfs2|smb3|"
    r"smbfs|wekafs"
)
"""File systems that hosts share. SQLite's shared memory does not work there (sqlite.org/wal.html)."""


def index_stem(store: Path, environment: Mapping[str, str]) -> Path:
    """The path of the index of a store, but for what follows the name. Its directory is made.

    Raises `StoreError` where others could write: what is in an index becomes the values of jobs.
    """
    directory = _cache_directory(environment)
    try:
        make_private(str(directory))
        found = directory.stat()
    except OSError as error:
        raise StoreError(f"the directory {directory} cannot be made: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise StoreError(f"{directory} belongs to another user ({found.st_uid}): set XDG_CACHE_HOME to one of your own")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise StoreError(f"{directory} can be written to by other users: chmod go-w {directory}")
    # Two hosts must not share an index: hence the name of this one.
    name = f"{whoami().host}\0{os.path.realpath(store)}"
    return directory / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.v{VERSION}"


def _cache_directory(environment: Mapping[str, str]) -> Path:
    """XDG_CACHE_HOME counts if it is absolute (XDG Base Directory Specification). A home may be on a file server."""
    given = environment.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path("~/.cache").expanduser()
    if not base.is_absolute() or is_remote(base):
        base = Path(tempfile.gettempdir(), f"orch-{os.getuid()}")
    return base / "orch" / "calls"


def is_remote(path: Path, mounts: str = "/proc/self/mountinfo") -> bool:
    """Is the path on a file system that hosts share? False where that cannot be told."""
    place = os.path.realpath(path)
    best, kind = -1, ""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        fields, _, rest = line.partition(" - ")  # proc(5): the mount point is the fifth field, the type follows " - "
        point = fields.split(" ")[4].encode().decode("unicode_escape")
        if len(point) >= best and (place == point or place.startswith(f"{point.rstrip('/')}/")):
            best, kind = len(point), rest.split(" ")[0]
    return _REMOTE.fullmatch(kind) is not None
