"""Making a store, and trying whether it does what a run rests on."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.failing import Failing

from orch.errors import StoreError
from orch.store.disk import Disk
from orch.store.file import MARKER, FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "store")
    made.create()
    return made


def test_create_twice(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "new" / "store")
    store.create()
    store.create()
    assert store.root.stat().st_mode & 0o777 == 0o700
    assert store.read_bytes(MARKER) == b'{"format":1}\n'


def test_a_newer_store_is_refused(store: FileStore) -> None:
    store.write_bytes(MARKER, b'{"format":2}\n')
    with pytest.raises(StoreError, match="has format 2, and this version of orch reads format 1 only"):
        store.create()


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b'{"other": 1}', b"\xff"])
def test_a_directory_of_something_else_is_refused(store: FileStore, marker: bytes) -> None:
    store.write_bytes(MARKER, marker)
    with pytest.raises(StoreError, match=r"is .* a store of orch\?"):
        store.create()


def test_a_store_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"could not create the store .*/file: Not a directory"):
        FileStore(tmp_path / "file").create()
    with pytest.raises(StoreError, match=r"could not create the store .*/file/below: Not a directory"):
        FileStore(tmp_path / "file" / "below").create()


def test_check_leaves_nothing(store: FileStore) -> None:
    store.check()
    assert os.listdir(store.root) == [MARKER]


@pytest.mark.parametrize(
    ("step", "after", "said"),
    [
        ("create", 0, "create a file"),
        ("write", 0, "write to a file"),
        ("sync", 0, "sync a file"),
        ("close", 0, "close a file"),
        ("create", 1, "create a file"),
        ("rename", 0, "rename a file in the place of another"),
        ("sync_directory", 0, "sync the directory"),
    ],
)
def test_check_names_the_step_that_failed(store: FileStore, step: str, after: int, said: str) -> None:
    failing = FileStore(store.root, disk=Failing(step, errno.EROFS, after))
    with pytest.raises(StoreError) as caught:
        failing.check()
    said = rf"the store {store.root} cannot be used: could not {said} there: Read-only file system \(.+\); mount it"
    assert re.match(said, str(caught.value))
    assert os.listdir(store.root) == [MARKER]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "its owner has to let this user write there"),
        (errno.ENOSPC, "free some space there"),
        (errno.EDQUOT, "have the quota raised"),
        (errno.EIO, "see what the system's log says about its file system"),
    ],
)
def test_check_says_what_to_do(store: FileStore, code: int, advice: str) -> None:
    with pytest.raises(StoreError, match=rf"{os.strerror(code)} \(.+\); .*{advice}$"):
        FileStore(store.root, disk=Failing("write", code)).check()


def test_check_without_a_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"create a file there: No such file or directory .*; see whether .* mounted"):
        FileStore(tmp_path / "none").check()


class Forgetful(Disk):
    """Takes what it is given, and writes something else."""

    def write(self, descriptor: int, data: memoryview) -> int:
        return super().write(descriptor, memoryview(bytes(len(data))))


class Generous(Disk):
    """Creates a file whether it exists or not."""

    def create(self, path: Path, mode: int) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)


class Idle(Disk):
    """Says that it has renamed a file."""

    def rename(self, source: Path, target: Path) -> None:
        pass


class Reads:
    """Counts what is read meanwhile, so that a slow disk can wait for a reader."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._told = threading.Condition()
        self._count = 0
        real = Path.read_bytes

        def read(path: Path) -> bytes:
            try:
                return real(path)
            finally:
                with self._told:
                    self._count += 1
                    self._told.notify_all()

        monkeypatch.setattr(Path, "read_bytes", read)

    def two_more(self) -> None:
        """The second one has begun after this was called."""
        with self._told:
            wanted = self._count + 2
            assert self._told.wait_for(lambda: self._count >= wanted, 30)


class Vanishing(Disk):
    """Removes what has the name before it gives that to another file."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def rename(self, source: Path, target: Path) -> None:
        target.unlink()
        self._reads.two_more()
        super().rename(source, target)


class Copying(Disk):
    """Renames by copying, as some stores of objects do."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def rename(self, source: Path, target: Path) -> None:
        data = source.read_bytes()
        with target.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            self._reads.two_more()
            file.write(data[len(data) // 2 :])
        source.unlink()


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (Forgetful(), "a file does not hold what was written to it"),
        (Generous(), "a file that exists can be created again .*two leaders may write one log"),
        (Idle(), "a file that was put in the place of another one is not there"),
    ],
)
def test_check_does_not_believe_the_disk(store: FileStore, disk: Disk, said: str) -> None:
    with pytest.raises(StoreError, match=rf"cannot be used: {said}.*; such a file system cannot hold a store"):
        FileStore(store.root, disk=disk).check()
    assert os.listdir(store.root) == [MARKER]


@pytest.mark.parametrize("kind", [Vanishing, Copying])
def test_check_looks_while_a_file_is_replaced(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, kind: type[Vanishing | Copying]
) -> None:
    disk = kind(Reads(monkeypatch))
    with pytest.raises(StoreError, match="while a file is replaced, a reader finds none, or half of one"):
        FileStore(store.root, disk=disk).check()
    assert os.listdir(store.root) == [MARKER]


CHECKING = """
import sys
from orch.errors import StoreError
from orch.store.file import FileStore
try:
    FileStore(sys.argv[1]).check()
except StoreError as error:
    print(error)
"""


def test_check_of_a_store_that_is_mounted_read_only(store: FileStore) -> None:
    """For real: nobody can write there, root neither."""
    mounted = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    root = str(store.root)
    if subprocess.run([*shell, mounted, "sh", root], check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here: this needs user namespaces")
    command = [*shell, f'{mounted} && exec "$2" -c "$3" "$1"', "sh", root, sys.executable, CHECKING]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "could not create a file there: Read-only file system (" in said
    assert said.endswith("mount it for writing\n")


@pytest.mark.parametrize("step", ["create", "make_directory"])
def test_a_store_that_may_not_be_written(tmp_path: Path, step: str) -> None:
    failing = FileStore(tmp_path / "store", disk=Failing(step, errno.EACCES))
    with pytest.raises(StoreError, match="Permission denied"):
        failing.create()
