"""Whole directories in the file store: one digest, all at once, links kept inside."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orch.errors import NoSuchFile, StoreError
from orch.store.disk import Disk
from orch.store.file import MARKER, FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "store")
    made.create()
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "a").write_bytes(b"aaa")
    (top / "sub" / "tool").write_bytes(b"bb")
    (top / "sub" / "tool").chmod(0o755)
    return top


def test_a_directory_is_copied(store: FileStore, source: Path) -> None:
    stored = store.put_directory("d/copy", source)
    assert (stored.path, stored.size, stored.directory) == ("d/copy", 5, True)
    copy = store.local_path("d/copy")
    assert (copy / "a").read_bytes() == b"aaa"
    assert (copy / "sub" / "empty").is_dir()
    assert os.access(copy / "sub" / "tool", os.X_OK)
    assert not os.access(copy / "a", os.X_OK)
    assert list(store.leftovers()) == []


def test_the_digest_is_of_names_contents_and_modes(store: FileStore, source: Path) -> None:
    digests = [store.put_directory("0", source).digest, store.put_directory("1", source).digest]
    assert digests[0] == digests[1]
    (source / "a").write_bytes(b"aab")
    digests.append(store.put_directory("2", source).digest)
    (source / "a").chmod(0o755)
    digests.append(store.put_directory("3", source).digest)
    (source / "a").rename(source / "b")
    digests.append(store.put_directory("4", source).digest)
    (source / "sub" / "empty").rmdir()
    digests.append(store.put_directory("5", source).digest)
    assert len(set(digests)) == 5


def test_names_cannot_be_mistaken_for_contents(store: FileStore, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "x").mkdir(parents=True)
    (two / "x").mkdir(parents=True)
    (one / "x" / "y").touch()
    (two / "x\ny").touch()
    assert store.put_directory("1", one).digest != store.put_directory("2", two).digest


def test_links_inside_are_replaced_by_what_they_mean(store: FileStore, source: Path) -> None:
    (source / "link").symlink_to("sub/tool")
    (source / "absolute").symlink_to(source / "a")
    (source / "other").symlink_to("sub")
    store.put_directory("d", source)
    copy = store.local_path("d")
    assert not (copy / "link").is_symlink()
    assert (copy / "link").read_bytes() == b"bb"
    assert os.access(copy / "link", os.X_OK)
    assert (copy / "absolute").read_bytes() == b"aaa"
    assert (copy / "other" / "tool").read_bytes() == b"bb"


def test_links_that_lead_outside_are_refused(store: FileStore, source: Path) -> None:
    (source / "sub" / "out").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match=r"sub/out is a link to /etc/hostname, outside of .*source"):
        store.put_directory("d", source)
    assert list(store.list()) == [MARKER]


def test_a_neighbour_with_the_same_beginning_is_outside(store: FileStore, source: Path, tmp_path: Path) -> None:
    (tmp_path / "source-2").mkdir()
    (source / "out").symlink_to(tmp_path / "source-2")
    with pytest.raises(StoreError, match="outside of"):
        store.put_directory("d", source)


@pytest.mark.parametrize("target", [".", "..", "loop"])
def test_links_that_never_end_are_refused(store: FileStore, source: Path, target: str) -> None:
    (source / "sub" / "loop").symlink_to(target)
    with pytest.raises(StoreError, match="loop"):
        store.put_directory("d", source)


def test_dangling_links_and_pipes_are_refused(store: FileStore, source: Path) -> None:
    (source / "gone").symlink_to("nothing")
    with pytest.raises(StoreError, match="gone is a link to nothing, which does not exist"):
        store.put_directory("d", source)
    (source / "gone").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(StoreError, match="pipe is neither a file nor a directory"):
        store.put_directory("d", source)


def test_missing_directory(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile, match=r"could not read the directory .*/none"):
        store.put_directory("d", tmp_path / "none")
    with pytest.raises(StoreError, match="Not a directory"):
        store.put_directory("d", __file__)


def test_the_same_again_is_left_as_it_is(store: FileStore, source: Path) -> None:
    first = store.put_directory("d", source)
    inode = store.local_path("d").stat().st_ino
    assert store.put_directory("d", source) == first
    assert store.local_path("d").stat().st_ino == inode
    assert list(store.leftovers()) == []


def test_other_contents_are_never_replaced(store: FileStore, source: Path) -> None:
    store.put_directory("d", source)
    (source / "a").write_bytes(b"changed")
    with pytest.raises(StoreError, match="exists already, with other contents"):
        store.put_directory("d", source)
    assert store.read_bytes("d/a") == b"aaa"
    assert list(store.leftovers()) == []
    store.write_bytes("file", b"")
    with pytest.raises(StoreError, match="exists already"):
        store.put_directory("file", source)


def test_a_full_disk_leaves_nothing(store: FileStore, source: Path) -> None:
    class Full(Disk):
        def write(self, descriptor: int, data: memoryview) -> int:
            if bytes(data) == b"bb":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(descriptor, data)

    with pytest.raises(StoreError, match="No space left on device"):
        FileStore(store.root, disk=Full()).put_directory("d", source)
    assert list(store.list()) == [MARKER]
    assert list(store.leftovers()) == []


def test_a_very_deep_tree(store: FileStore, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    names = ["d"] * 300
    (deep / "/".join(names)).mkdir(parents=True)
    stored = store.put_directory("copy", deep)
    assert stored.size == 0
    assert store.exists("copy/" + "/".join(names))
    store.delete_tree("copy")
    assert list(store.leftovers()) == []
