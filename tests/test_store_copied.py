"""Stores that are copied or moved while something runs in them: nobody touches what belongs to the other."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support.command import log_directory, orch, running, until
from support.kills import end_agent
from support.saboteur import agent_of

from orch.agent import paths
from orch.bus.events import Running, Succeeded
from orch.bus.reader import read
from orch.errors import StoreError
from orch.store.file import FileStore

WIDE = Path(__file__).parent / "flows" / "counted.py"


def begin(place: Path, seconds: float) -> list[str]:
    """A run of four jobs in the store `s`."""
    (place / "counts").mkdir()
    own = ["--quiet", "--run-id", "r", "--store", str(place / "s")]
    return ["run", *own, str(WIDE), "--where", str(place / "counts"), "--jobs", "4", "--seconds", str(seconds)]


async def test_a_copy_that_is_carried_on_leaves_the_original_alone(tmp_path: Path) -> None:
    """It has an agent of its own, and ends nothing that belongs to the other."""
    with running(*begin(tmp_path, 3.0), cwd=tmp_path) as first:
        await until(log_directory(tmp_path / "s", "r"), lambda event: isinstance(event, Running))
        shutil.copytree(tmp_path / "s", tmp_path / "copy", ignore=shutil.ignore_patterns("lock"))
        try:
            copied = orch("replay", "r", "--restart", "--quiet", "--store", tmp_path / "copy", cwd=tmp_path)
            assert copied.returncode == 0, copied.stderr
            out, err = first.communicate(timeout=60)
        finally:
            end_agent(tmp_path / "copy")
    assert first.returncode == 0, err
    assert json.loads(out) == json.loads(copied.stdout) == 6
    attempts = [event.attempt for event in read(log_directory(tmp_path / "s", "r")) if isinstance(event, Succeeded)]
    assert set(attempts) == {1}, "an attempt of the original was lost"


async def test_a_store_that_was_moved_does_not_come_to_life_where_it_was(tmp_path: Path) -> None:
    with running(*begin(tmp_path, 8.0), cwd=tmp_path) as first:
        await until(log_directory(tmp_path / "s", "r"), lambda event: isinstance(event, Running))
        agent = os.pidfd_open(agent_of(str(tmp_path / "s")))
        first.kill()
        first.wait()
    (tmp_path / "s").rename(tmp_path / "moved")
    try:
        done = orch("replay", "r", "--restart", "--quiet", "--store", tmp_path / "moved", cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == 6
        assert not (tmp_path / "s").exists()
    finally:
        os.close(agent)
        end_agent(tmp_path / "moved")


def test_only_create_makes_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is gone: it was moved or deleted"):
        FileStore(tmp_path / "s").write_bytes("runs/r/value", b"x")
    assert not (tmp_path / "s").exists()


def test_a_pointer_is_of_one_store(tmp_path: Path) -> None:
    for name in ("s", "copy"):
        FileStore(tmp_path / name).create()
    one, copy = str(tmp_path / "s"), str(tmp_path / "copy")
    paths.write_pointer(one, "/runtime")
    shutil.copytree(paths.agent_directory(one), paths.agent_directory(copy), dirs_exist_ok=True)
    assert (paths.read_pointer(one), paths.is_copy(one)) == ("/runtime", False)
    assert (paths.read_pointer(copy), paths.is_copy(copy)) == ("", True)


SPOILED = """
import glob, orch

@orch.job
def big() -> bytes:
    return b"x" * 100_000

@orch.job
def spoil(data: bytes, store: str) -> int:
    [path] = glob.glob(f"{store}/runs/*/values/*/*.value")
    with open(path, "r+b") as file:
        file.seek(50_000)
        file.write(b"y")
    return len(data)

@orch.job
def use(data: bytes, length: int) -> int:
    return data.count(b"x")

@orch.workflow
def main(store: str = ""):
    data = big()
    return use(data, spoil(data, store))
"""


def test_a_value_that_was_changed_is_refused(tmp_path: Path) -> None:
    """Its size is right, and it can be unpickled: only the digest tells."""
    (tmp_path / "spoiled.py").write_text(SPOILED)
    done = orch("run", "--quiet", "--store", tmp_path / "s", "spoiled.py", "--store", tmp_path / "s", cwd=tmp_path)
    assert done.returncode == 1
    assert "has changed since it was written" in done.stderr
    assert done.stdout == ""
