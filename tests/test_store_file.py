"""The file store: whole files or none, under every name and after every failure."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.failing import Failing, Short

from orch.errors import NoSuchFile, StoreError
from orch.store.file import MARKER, TEMPORARY, FileStore

LONG = "n" * 255


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "store")
    made.create()
    return made


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
