"""A virtual environment for each peer, outside of ours, kept between sessions."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from peers.roster import Peer

PATIENCE = 1200
"""Seconds for installing one peer."""


class Missing(Exception):
    """A peer that cannot be installed; says why."""


@dataclass(frozen=True)
class Environment:
    """An interpreter, and the version of the engine that it has."""

    python: Path
    version: str

    def variables(self) -> dict[str, str]:
        """What a shell would have: without what is said to orch and to our own interpreter, and its programs first."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ORCH_", "PYTHON", "VIRTUAL_"))
        }
        return kept | {"PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"}


def cache_directory() -> Path:
    """Where the environments are kept unless something else is said."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orch-bench-peers"


def environment_of(peer: Peer, cache: Path) -> Environment:
    """The peer's environment, made if it is not there yet. Raises `Missing`."""
    if not peer.package:
        version = _version(Path(sys.executable), "orch") if peer.package is None else sys.version.split()[0]
        return Environment(Path(sys.executable), version)
    place = cache / f"{peer.package}-{sys.version_info.major}.{sys.version_info.minor}"
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        print(f"installing {peer.package} in {place} …", file=sys.stderr, flush=True)
        venv.create(place, clear=True, with_pip=True, symlinks=True)
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer.package])
        (place / "complete").touch()
    return Environment(python, _version(python, peer.package))


def _version(python: Path, package: str) -> str:
    return _run([str(python), "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]).strip()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE, env=_quiet())
    except subprocess.TimeoutExpired:
        raise Missing(f"not installed within {PATIENCE} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        raise Missing(said[-1][:200] if said else f"exit code {error.returncode}") from None
    return done.stdout


def _quiet() -> dict[str, str]:
    """So that pip compiles what it installs, where the engine will look for it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
