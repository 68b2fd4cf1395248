"""The file store: whole files or none, under every name and after every failure."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orch.errors import NoSuchFile, StoreError
from orch.store.disk import Disk
from orch.store.file import MARKER, TEMPORARY, FileStore

LONG = "n" * 255


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "store")
    made.create()
    return made


class Failing(Disk):
    """A disk of which one call fails, once `after` calls of that kind have passed."""

    def __init__(self, method: str, code: int, after: int = 0) -> None:
        self.calls: list[str] = []
        self._method, self._code, self._left = method, code, after

    def __getattribute__(self, name: str) -> Any:
        real: Any = super().__getattribute__(name)
        if name not in STEPS:
            return real

        def call(*args: Any) -> Any:
            self.calls.append(name)
            if name == self._method:
                if self._left == 0:
                    raise OSError(self._code, os.strerror(self._code))
                self._left -= 1
            return real(*args)

        return call


STEPS = ["create", "write", "sync", "rename", "sync_directory", "make_directory", "close"]


class Short(Disk):
    """A disk that takes three bytes at a time."""

    def write(self, descriptor: int, data: memoryview) -> int:
        return super().write(descriptor, data[:3])


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["a", "runs/r/values/000/1.1.value", "with space/and\nnewline", "grüße/日本", "-rf", "~", "...", LONG, f"d/{LONG}"],
)
def test_what_is_written_is_read(store: FileStore, path: str) -> None:
    digest = store.write_bytes(path, b"some data")
    assert digest == sha(b"some data")
    assert store.read_bytes(path) == b"some data"
    with store.open(path) as file:
        assert file.read() == b"some data"
    assert store.exists(path)
    assert store.size(path) == 9
    assert store.local_path(path) == store.root / path
    assert path in list(store.list())


def test_undecodable_names_are_names(store: FileStore) -> None:
    path = os.fsdecode(b"caf\xe9")
    store.write_bytes(path, b"x")
    assert path in list(store.list())


def test_a_file_replaces_a_file(store: FileStore) -> None:
    store.write_bytes("a", b"one", executable=True)
    store.write_bytes("a", b"two")
    assert store.read_bytes("a") == b"two"
    assert store.local_path("a").stat().st_mode & 0o777 == 0o600


def test_a_disk_may_take_less_than_it_is_given(tmp_path: Path) -> None:
    store = FileStore(tmp_path, disk=Short())
    store.write_bytes("a", b"0123456789")
    assert store.read_bytes("a") == b"0123456789"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(store: FileStore, mask: int) -> None:
    before = os.umask(mask)
    try:
        store.write_bytes("plain", b"")
        store.write_bytes("tool", b"", executable=True)
    finally:
        os.umask(before)
    assert store.local_path("plain").stat().st_mode & 0o777 == 0o600
    assert store.local_path("tool").stat().st_mode & 0o777 == 0o700


def test_put_file_keeps_contents_and_the_executable_bit(store: FileStore, tmp_path: Path) -> None:
    source = tmp_path / "tool.sh"
    source.write_bytes(b"#!/bin/sh\n" * 300_000)
    source.chmod(0o755)
    stored = store.put_file("f/tool.sh", source)
    assert (stored.path, stored.size, stored.directory) == ("f/tool.sh", 3_000_000, False)
    assert stored.digest == sha(source.read_bytes())
    assert store.read_bytes("f/tool.sh") == source.read_bytes()
    assert os.access(store.local_path("f/tool.sh"), os.X_OK)
    source.chmod(0o644)
    store.put_file("f/data", source)
    assert not store.local_path("f/data").stat().st_mode & 0o111


def test_put_file_refuses_what_is_no_file(store: FileStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=r"pipe: not a regular file"):
        store.put_file("a", tmp_path / "pipe")
    with pytest.raises(StoreError, match="Is a directory"):
        store.put_file("a", tmp_path)
    with pytest.raises(NoSuchFile, match=r"missing: it does not exist"):
        store.put_file("a", tmp_path / "missing")
    assert not store.exists("a")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../b", "../x", "a//b", "a/", ".", "a/./b", "a\0b"])
def test_paths_that_leave_the_store_are_refused(store: FileStore, path: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.write_bytes(path, b""),
        lambda: store.read_bytes(path),
        lambda: store.open(path),
        lambda: store.delete(path),
        lambda: store.delete_tree(path),
        lambda: store.exists(path),
        lambda: store.put_file(path, __file__),
        lambda: store.put_directory(path, Path(__file__).parent),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="is not a path inside a store"):
            call()


def test_a_name_of_256_bytes_is_a_clear_error(store: FileStore) -> None:
    with pytest.raises(StoreError, match=r"could not write n+ in the store .*: File name too long"):
        store.write_bytes(LONG + "n", b"")


def test_missing_files_are_named(store: FileStore) -> None:
    for call in (store.read_bytes, store.open, store.size):
        with pytest.raises(NoSuchFile, match=r"no/such in the store .* does not exist") as caught:
            call("no/such")
        assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert not store.exists("no/such")
    store.write_bytes("file", b"")
    assert not store.exists("file/below")
    with pytest.raises(StoreError, match="Not a directory"):
        store.write_bytes("file/below", b"")


# Deleting and listing --------------------------------------------------------------------------------------------


def test_delete_is_idempotent(store: FileStore) -> None:
    store.write_bytes("d/a", b"")
    store.write_bytes("d/sub/b", b"")
    store.delete("d/a")
    store.delete("d/a")
    store.delete("d/a/below")
    assert list(store.list("d")) == ["d/sub/b"]
    store.delete("d")
    store.delete_tree("d")
    store.delete_tree("never/was")
    assert not store.exists("d")
    assert list(store.list()) == [MARKER]


def test_list_is_in_order_and_by_directory(store: FileStore) -> None:
    for path in ["d/b", "d/a/2", "d/a/1", "da", "e"]:
        store.write_bytes(path, b"")
    assert list(store.list("d")) == ["d/b", "d/a/1", "d/a/2"]
    assert list(store.list("d/")) == list(store.list("d"))
    assert sorted(store.list()) == ["d/a/1", "d/a/2", "d/b", "da", "e", MARKER]
    assert list(store.list("nothing")) == []
    assert list(store.list("e")) == []


def test_links_in_the_store_are_not_walked(store: FileStore) -> None:
    store.write_bytes("d/a", b"")
    store.local_path("d/loop").symlink_to(store.root)
    assert list(store.list("d")) == ["d/a", "d/loop"]
    store.delete("d/loop")
    assert store.exists("d/a")


# Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["create", "write", "sync", "close", "rename"])
def test_a_failing_step_leaves_the_old_file_and_no_other(store: FileStore, step: str) -> None:
    store.write_bytes("d/a", b"old")
    failing = FileStore(store.root, disk=Failing(step, errno.ENOSPC))
    with pytest.raises(StoreError, match=r"d/a in the store .*No space left on device; free some space") as caught:
        failing.write_bytes("d/a", b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert store.read_bytes("d/a") == b"old"
    assert list(store.list("d")) == ["d/a"]
    assert list(store.leftovers()) == []


def test_a_directory_that_cannot_be_synced_is_an_error(store: FileStore) -> None:
    failing = FileStore(store.root, disk=Failing("sync_directory", errno.EIO))
    with pytest.raises(StoreError, match="Input/output error"):
        failing.write_bytes("a", b"new")


def test_a_failed_sync_is_not_tried_again(store: FileStore) -> None:
    disk = Failing("sync", errno.EIO)
    with pytest.raises(StoreError):
        FileStore(store.root, disk=disk).write_bytes("a", b"new")
    assert disk.calls.count("sync") == 1
    assert "rename" not in disk.calls


def test_synced_before_it_has_its_name(store: FileStore) -> None:
    disk = Failing("", 0)
    FileStore(store.root, disk=disk).write_bytes("d/a", b"x")
    assert disk.calls == [
        *["create", "make_directory", "sync_directory"],  # the directory was missing
        *["create", "write", "sync", "close", "rename", "sync_directory"],
    ]


def test_unsynced_writes_sync_nothing(store: FileStore) -> None:
    disk = Failing("", 0)
    FileStore(store.root, disk=disk).write_bytes("d/a", b"x", sync=False)
    assert not [call for call in disk.calls if "sync" in call]


DYING = """
import os, sys
from orch.store.disk import Disk
from orch.store.file import FileStore
disk = Disk()
setattr(disk, sys.argv[2], lambda *_: os._exit(7))
FileStore(sys.argv[1], disk=disk).write_bytes("d/a", b"new" * 1000)
"""


@pytest.mark.parametrize("step", ["create", "write", "sync", "close", "rename", "sync_directory"])
def test_a_crash_in_front_of_any_step_leaves_a_whole_file_or_none(store: FileStore, step: str) -> None:
    store.write_bytes("d/a", b"old")
    died = subprocess.run([sys.executable, "-c", DYING, str(store.root), step], check=False)
    assert died.returncode == 7
    assert store.read_bytes("d/a") in (b"old", b"new" * 1000)
    assert list(store.list("d")) == ["d/a"]
    for left in list(store.leftovers()):
        assert TEMPORARY in left
        store.delete(left)
    assert os.listdir(store.root / "d") == ["a"]


def test_a_reader_never_sees_half_a_file(store: FileStore) -> None:
    """Two writers and a reader on one path: each read is one of the two, whole."""
    one, two = b"1" * 200_000, b"2" * 300_000
    store.write_bytes("a", one)

    def write(data: bytes) -> None:
        other = FileStore(store.root)
        for _ in range(30):
            other.write_bytes("a", data, sync=False)

    writers = [threading.Thread(target=write, args=(data,)) for data in (one, two)]
    seen = set()
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        data = store.read_bytes("a")
        seen.add((data[:1], len(data), len(set(data))))
    for writer in writers:
        writer.join()
    assert seen <= {(b"1", 200_000, 1), (b"2", 300_000, 1)}
    assert list(store.leftovers()) == []


# The store itself ------------------------------------------------------------------------------------------------


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
