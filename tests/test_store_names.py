"""Blobs, locators and run ids."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.bus.events import INLINE_LIMIT, Blob
from orch.errors import NoSuchFile, NoSuchRun, StoreError, UnknownStore, UserError
from orch.store.blobs import blob_bytes, make_blob
from orch.store.file import FileStore
from orch.store.locator import open_store
from orch.store.runs import check_run_id, list_runs, new_run_id, newest_run


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "store")
    made.create()
    return made


# Blobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT])
def test_small_blobs_are_inline(store: FileStore, size: int) -> None:
    blob = make_blob(store, "b", b"x" * size)
    assert (blob.file, blob.size, len(blob.data)) == ("", size, size)
    assert blob_bytes(store, blob, verify=True) == b"x" * size
    assert not store.exists("b")


def test_large_blobs_are_files(store: FileStore) -> None:
    data = b"x" * (INLINE_LIMIT + 1)
    blob = make_blob(store, "d/b", data)
    assert (blob.file, blob.size, blob.data) == ("d/b", len(data), b"")
    assert blob.digest.startswith("sha256:")
    assert blob_bytes(store, blob, verify=True) == data


def test_blobs_that_have_changed_are_refused(store: FileStore) -> None:
    blob = make_blob(store, "b", b"x" * 100_000)
    store.write_bytes("b", b"y" * 100_000)
    assert blob_bytes(store, blob) == b"y" * 100_000
    with pytest.raises(StoreError, match="its digest differs"):
        blob_bytes(store, blob, verify=True)
    store.write_bytes("b", b"short")
    with pytest.raises(StoreError, match="has 5 bytes, and 100000 were written"):
        blob_bytes(store, blob)
    store.delete("b")
    with pytest.raises(NoSuchFile):
        blob_bytes(store, blob)


def test_captured_output_has_no_digest(store: FileStore) -> None:
    store.write_bytes("log", b"text", sync=False)
    assert blob_bytes(store, Blob(file="log", size=4), verify=True) == b"text"


# Locators --------------------------------------------------------------------------------------------------------


def test_paths_and_file_locators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = {
        ".orch": tmp_path / ".orch",
        "./a:b": tmp_path / "a:b",
        "with space": tmp_path / "with space",
        "/data/x": Path("/data/x"),
        "file:/data/x": Path("/data/x"),
        "file:///data/x": Path("/data/x"),
        "FILE:rel": tmp_path / "rel",
        "~/x": Path("/home/somebody/x"),
        "file:~/x": Path("/home/somebody/x"),
    }
    assert {locator: open_store(locator).root for locator in expected} == expected
    assert open_store(tmp_path / "a:b").root == tmp_path / "a:b"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("locator", ["", "file:", "file://host/data", "a\0b"])
def test_locators_that_name_no_directory(locator: str) -> None:
    with pytest.raises(UnknownStore, match="names"):
        open_store(locator)


def test_unknown_schemes_name_the_extra() -> None:
    with pytest.raises(UnknownStore, match=r"s3: is installed \(s3://bucket/x\): pip install 'orch\[s3\]'"):
        open_store("s3://bucket/x")
    with pytest.raises(UnknownStore, match=r"no store for gopher: .* known are file: and s3: .* write \./gopher:x"):
        open_store("gopher:x")


def test_other_packages_bring_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        @staticmethod
        def load() -> object:
            return lambda locator: FileStore(tmp_path / locator.partition(":")[2])

    def entry_points(*, group: str, name: str) -> list[Entry]:
        assert group == "orch.stores"
        return [Entry()] if name == "vault" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert open_store("vault:x").root == tmp_path / "x"
    with pytest.raises(UnknownStore):
        open_store("safe:x")


# Runs ------------------------------------------------------------------------------------------------------------


def begin(store: FileStore, run: str, when: str, segment: str = "000001") -> None:
    line = f'{{"seq":1,"time":"{when}","epoch":1,"type":"opened","crc":"0"}}\n' if when else ""
    store.write_bytes(f"runs/{run}/log/{segment}.events.jsonl", line.encode())


def test_runs_are_listed_newest_first(store: FileStore) -> None:
    assert list_runs(store) == []
    begin(store, "zebra", "2026-01-01T00:00:00.000001Z")
    begin(store, "ant", "2026-01-01T00:00:00.000003Z")
    begin(store, "20260101-000000-0000", "2026-01-01T00:00:00.000002Z")
    assert list_runs(store) == ["ant", "20260101-000000-0000", "zebra"]
    assert newest_run(store) == "ant"


def test_runs_that_never_began_are_not_listed(store: FileStore) -> None:
    begin(store, "claimed", "")
    store.write_bytes("runs/no-log/values/x", b"")
    store.write_bytes("runs/a file", b"")
    with pytest.raises(NoSuchRun, match="has no runs"):
        newest_run(store)
    begin(store, "claimed", "2026-01-01T00:00:00.000001Z", segment="000002")
    assert newest_run(store) == "claimed"


def test_a_store_without_directory_has_no_runs(tmp_path: Path) -> None:
    assert list_runs(FileStore(tmp_path / "none")) == []


def test_default_ids() -> None:
    assert new_run_id(0.0) == "19700101-000000-0000"
    assert new_run_id(0.999999) == "19700101-000000-zzzy"
    assert len(new_run_id()) == 20


@given(st.floats(min_value=0, max_value=4e9), st.floats(min_value=0, max_value=4e9))
def test_default_ids_sort_by_time(one: float, two: float) -> None:
    early, late = sorted((one, two))
    assert new_run_id(early) <= new_run_id(late)
    assert check_run_id(new_run_id(late)) == new_run_id(late)


@pytest.mark.parametrize("run", ["a", "A.b_c-1", "7", "x" * 100])
def test_good_ids(run: str) -> None:
    assert check_run_id(run) == run


@pytest.mark.parametrize("run", ["", ".", "..", "-x", "a/b", "a b", "ü", "a\n", "x" * 101, "_x"])
def test_bad_ids_are_named(run: str) -> None:
    with pytest.raises(UserError, match="run id"):
        check_run_id(run)
