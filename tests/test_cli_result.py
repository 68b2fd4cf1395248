"""How a result is printed, and where its files go."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import os
from pathlib import Path
from typing import Any

import pytest

from orch.cli.export import Exporter, out_directory
from orch.cli.result import result_text
from orch.errors import SystemTrouble, UserError
from orch.files import DirRef, FileRef
from orch.store.file import FileStore


def where(ref: FileRef | DirRef) -> str:
    return f"/store/{ref.path}"


@dataclasses.dataclass
class Point:
    x: int
    items: tuple[Any, ...] = ()


class Colour(enum.StrEnum):
    RED = "red"


Pair = collections.namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - users do


class Strange:
    def __repr__(self) -> str:
        return "<strange>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (3, "3"),
        ("ä\n", '"ä\\n"'),
        ([1, (2, 3)], "[1, [2, 3]]"),
        ({"a": [True, 1.5]}, '{"a": [true, 1.5]}'),
        (Point(1, (Point(2),)), '{"x": 1, "items": [{"x": 2, "items": []}]}'),
        (Pair(1, 2), "[1, 2]"),
        (Colour.RED, '"red"'),
        (Path("/a/b"), '"/a/b"'),
        (FileRef("n", "p/n"), '"/store/p/n"'),
        ({"d": [DirRef("n", "p/n")]}, '{"d": ["/store/p/n"]}'),
        (float("nan"), "nan"),
        ([float("inf")], "[inf]"),
        ({1: 2}, "{1: 2}"),
        (b"x", "b'x'"),
        ({3}, "{3}"),
        ([Strange(), FileRef("n", "p/n")], "[<strange>, '/store/p/n']"),
        (2**80, str(2**80)),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_json_where_it_can_be_else_repr(value: Any, text: str) -> None:
    assert result_text(value, where) == text


def test_a_terminal_that_knows_ascii_only() -> None:
    assert json.loads(result_text("ä", where, "ascii")) == "ä"
    assert result_text({1: "ä"}, where, "ascii") == "{1: '\\xe4'}"


def test_nesting_without_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert result_text(loop, where) == "[[...]]"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "s")
    made.create()
    return made


def test_files_are_exported_under_their_names(store: FileStore, tmp_path: Path) -> None:
    store.write_bytes("a/out.txt", b"one", executable=True)
    store.write_bytes("b/out.txt", b"two")
    first, second = FileRef("out.txt", "a/out.txt", executable=True), FileRef("out.txt", "b/out.txt")
    target = tmp_path / "deep" / "out"
    shown = json.loads(result_text([first, second, first], Exporter(store, target)))
    assert shown == [str(target / "out.txt"), str(target / "out-2.txt"), str(target / "out.txt")]
    assert Path(shown[0]).read_bytes() == b"one"
    assert os.access(shown[0], os.X_OK)
    assert not os.access(shown[1], os.X_OK)
    assert sorted(path.name for path in target.iterdir()) == ["out-2.txt", "out.txt"]


def test_an_earlier_export_is_replaced(store: FileStore, tmp_path: Path) -> None:
    store.write_bytes("a/f", b"new")
    store.write_bytes("d/tree/x", b"x")
    target = tmp_path / "out"
    (target / "tree").mkdir(parents=True)
    (target / "tree" / "old").write_text("old")
    (target / "f").write_text("old")
    result_text([FileRef("f", "a/f"), DirRef("tree", "d/tree")], Exporter(store, target))
    assert (target / "f").read_bytes() == b"new"
    assert [path.name for path in (target / "tree").iterdir()] == ["x"]
    assert sorted(path.name for path in target.iterdir()) == ["f", "tree"]


@pytest.mark.parametrize("name", ["..", "", "a/../../b", "/etc/passwd"])
def test_a_name_cannot_lead_out_of_the_directory(store: FileStore, tmp_path: Path, name: str) -> None:
    store.write_bytes("a/f", b"x")
    target = tmp_path / "out"
    shown = Exporter(store, target)(FileRef(name, "a/f"))
    assert Path(shown).parent == target


def test_an_export_that_fails_is_the_systems_fault(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(SystemTrouble, match="the run has succeeded, but --out failed"):
        Exporter(store, tmp_path / "out")(FileRef("f", "a/not-there"))


def test_where_out_may_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert out_directory("a/b") == tmp_path / "a" / "b"
    assert out_directory(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    (tmp_path / "file").write_text("")
    for text, message in [
        ("file", "is not a directory"),
        ("file/x", "is not a directory"),
        ("s3://b/x", "only a directory or a file: URL"),
        ("file://host/x", "names another host"),
        ("", "names no directory"),
        ("/proc/none", "cannot be written to"),
    ]:
        if message == "cannot be written to" and os.access("/proc", os.W_OK):
            continue
        with pytest.raises(UserError, match=message):
            out_directory(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
