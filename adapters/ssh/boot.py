"""How a bridge gets onto a host: a small program that takes orch's own code from its stdin, and becomes the bridge.

Nothing of orch need be installed there, only Python. The code is kept below the user's cache, under its digest, so that
it travels once. msgspec is compiled: where the Python there has none, the leader's own is sent if that Python is alike.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import os
import platform
import shlex
import struct
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orch

MAGIC = b"\0orch\0"
"""Comes before anything that the program says: what login scripts print comes before this."""

DEPENDENCIES = ("msgspec", "cloudpickle")
"""What agents and workers import beside the standard library."""

NO_PYTHON = 66
"""Exit code where there is none that will do."""

_PROGRAM = r"""
import importlib.util, io, json, os, platform, shutil, struct, sys, sysconfig, tarfile, time
def take(count):
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            sys.exit(1)
        data += more
    return data
def hear():
    return take(struct.unpack("!I", take(4))[0])
def say(what):
    data = json.dumps(what).encode()
    os.write(1, struct.pack("!I", len(data)) + data)
def keep(path):
    data = hear()
    if data:
        draft = "%s.%d" % (path, os.getpid())
        os.makedirs(draft, 0o700)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(draft, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        try:
            os.rename(draft, path)
        except OSError:
            shutil.rmtree(draft)
    os.utime(path)
os.umask(0o077)
os.write(1, b"\0orch\0")
orders = json.loads(hear())
cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
base = orders["base"] or os.path.join(cache, "orch", "code")
like = [sys.implementation.cache_tag, sysconfig.get_platform(), platform.libc_ver()[0]]
places = [os.path.join(base, name) for name in orders["names"]]
missing = [name for name in orders["needs"] if importlib.util.find_spec(name) is None]
say({"like": like, "python": platform.python_version(), "executable": sys.executable, "missing": missing,
     "there": [os.path.isdir(place) for place in places]})
wanted = json.loads(hear())
ways = []
for place, needed in zip(places, wanted):
    if needed:
        keep(place)
        ways.append(place)
for name in os.listdir(base):
    path = os.path.join(base, name)
    if time.time() - os.stat(path).st_mtime > 30 * 86400:
        shutil.rmtree(path, ignore_errors=True)
os.environ["PYTHONPATH"] = os.pathsep.join(ways)
os.execv(sys.executable, [sys.executable, "-P", "-m", "orch.agent.bridge"])
"""

_SCRIPT = (
    "unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONEXECUTABLE PYTHONWARNINGS PYTHONINSPECT; "
    "for python in {pythons}; do "
    "if \"$python\" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then "
    'exec "$python" -P -c \'import base64; exec(base64.b64decode("{program}"))\'; '
    "fi; done; exit {no_python}"
)


def command(python: str) -> str:
    """What the host's shell is told, whichever shell that is. `python`: the one to use; empty: ours, or another."""
    pythons = [python] if python else [sys.executable, *(f"python3.{minor}" for minor in (14, 13, 12, 11)), "python3"]
    script = _SCRIPT.format(
        pythons=shlex.join(pythons), program=base64.b64encode(_PROGRAM.encode()).decode(), no_python=NO_PYTHON
    )
    return f"/bin/sh -c {shlex.quote(script)}"


class Code(NamedTuple):
    """orch's own code, and what it needs, as archives. `names` are unique to what is in them."""

    names: tuple[str, str]
    archives: tuple[bytes, bytes]
    like: list[str]


class Orders(NamedTuple):
    """What a host is told first: where to keep code, which it is about, and what has to be importable."""

    base: str
    code: Code

    def first(self) -> bytes:
        """The first message."""
        return _packed({"base": self.base, "names": self.code.names, "needs": DEPENDENCIES})


class Reply(NamedTuple):
    """What a host says: `like` tells which compiled modules its Python takes, `missing` what it lacks."""

    like: list[str]
    python: str
    executable: str
    missing: list[str]
    there: list[bool]


def reply(data: bytes) -> Reply:
    """The host's answer."""
    return Reply(**json.loads(data))


def answer(found: Reply, code: Code) -> bytes:
    """What is sent to a host that has said this. Raises `ValueError`: what it lacks, for people."""
    lacks = bool(found.missing)
    if lacks and found.like != code.like:
        names = " ".join(found.missing)
        raise ValueError(
            f"its Python ({found.executable}, {found.python}) has no {names}, and is not like the one here, whose own "
            f"could be used: install it there with: {found.executable} -m pip install {names}"
        )
    wanted = [True, lacks]
    archives = [
        b"" if there else archive
        for needed, there, archive in zip(wanted, found.there, code.archives, strict=True)
        if needed
    ]
    return b"".join([_packed(wanted), *(struct.pack("!I", len(each)) + each for each in archives)])


def _packed(content: object) -> bytes:
    data = json.dumps(content).encode()
    return struct.pack("!I", len(data)) + data


def make_code() -> Code:
    """Read it. Blocking: some hundred small files."""
    own = _archive(_modules("orch", Path(next(iter(orch.__path__)))))
    needed = _archive(file for name in DEPENDENCIES for file in _files(name, _place(name)))
    like = [sys.implementation.cache_tag or "", sysconfig.get_platform(), platform.libc_ver()[0]]
    names = f"orch-{_digest(own)}", f"needs-{_digest(needed)}"
    return Code(names, (own, needed), like)


def _modules(name: str, place: Path) -> Iterator[tuple[str, Path]]:
    """The files of our package: four folders are one package, wherever they are (see ARCHITECTURE.md)."""
    found = dict(_files(name, place))
    for part in ("adapters", "bus"):
        found.update(_files(f"{name}.{part}", _place(f"{name}.{part}")))
    return iter(found.items())


def _place(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _files(name: str, place: Path) -> Iterator[tuple[str, Path]]:
    root = name.replace(".", "/")
    for directory, folders, names in os.walk(place):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        for each in sorted(names):
            if each.endswith((".py", ".so")):
                path = Path(directory, each)
                yield f"{root}/{path.relative_to(place)}", path


def _archive(files: Iterator[tuple[str, Path]]) -> bytes:
    """A tar file that is the same for the same files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=3) as archive:
        for name, path in sorted(files):
            content = path.read_bytes()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o700 if name.endswith(".so") else 0o600
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _digest(archive: bytes) -> str:
    """Of what is in it: the compressed form has the time in its header (RFC 1952, MTIME, bytes 4 to 7)."""
    return hashlib.sha256(archive[:4] + archive[8:]).hexdigest()[:16]
