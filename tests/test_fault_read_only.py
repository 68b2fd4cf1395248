"""A store that can be read and not written: what leads a run says so and leaves nothing, what reads it works."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.command import ORCH, orch
from support.kills import Case, agent_ends
from support.mounts import play, read_only, writable

READING = (["list"], ["status", "r"], ["replay", "r"], ["logs", "r", "gather"], ["tail", "r"], ["why", "r", "gather"])
UNPRIVILEGED = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
"""Permissions of files bind the superuser as well without these (capabilities(7))."""


def pictures(store: Path) -> dict[str, tuple[int, int]]:
    """Every file, with its length and when it was written."""
    found = {}
    for path in sorted(store.rglob("*")):
        entry = path.lstat()
        found[str(path)] = entry.st_size if path.is_file() else 0, entry.st_mtime_ns
    return found


def begun(place: Path) -> Case:
    """A store with a run that was interrupted, and no agent."""
    case = Case(place, "r", seconds=0.02)
    with agent_ends(case.store):
        case.call([*case.sabotage(at=50, do=["leader"]), *case.begin()])
    return case


def check(case: Case, *before: str) -> None:
    """Each command, with these words before it, on a store that cannot be written."""

    def call(words: list[str]) -> subprocess.CompletedProcess[str]:
        line = [*before, *ORCH, *words]
        return subprocess.run(line, cwd=case.place, capture_output=True, text=True, timeout=60, check=False)

    was = pictures(case.store)
    other = Case(case.place, "other")
    leading = {2: other.begin(), 6: case.carry_on()}
    for code, words in leading.items():
        done = call(words)
        assert done.returncode == code, (words, done)
        assert "ermission denied" in done.stderr or "Read-only file system" in done.stderr, done.stderr
    for words in (["stop", "r"], ["cancel", "r"], ["clean", "--yes", "r"], ["clean", "--garbage"]):
        done = call([*words, "--store", str(case.store)])
        assert done.returncode in (0, 6), (words, done)
        assert done.returncode == 0 or "ermission denied" in done.stderr or "Read-only" in done.stderr, done.stderr
    for words in READING:
        done = call([words[0], *words[1:], "--store", str(case.store)])
        assert done.returncode == 0, (words, done)
        assert done.stdout or words[0] == "logs", words
        assert "Traceback" not in done.stderr, done.stderr
    assert pictures(case.store) == was, "something was changed"


def test_it_is_mounted_read_only(tmp_path: Path) -> None:
    play(scenario_of_a_mount, tmp_path)


def scenario_of_a_mount(place: Path) -> None:
    """And when it is writable again, the run is carried on."""
    case = begun(place)
    read_only(case.store)
    check(case)
    writable(case.store)
    with agent_ends(case.store):
        case.check(orch(*case.carry_on(), cwd=place))


def test_its_directories_deny_it(tmp_path: Path) -> None:
    case = begun(tmp_path)
    directories = [case.store, *(path for path in case.store.rglob("*") if path.is_dir())]
    files = [path for path in case.store.rglob("*") if path.is_file()]
    modes = {path: path.stat().st_mode for path in [*files, *directories]}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        check(case, *(UNPRIVILEGED if os.geteuid() == 0 else []))
    finally:
        for path in reversed(modes):
            path.chmod(modes[path])
    with agent_ends(case.store):
        case.check(case.finish())
