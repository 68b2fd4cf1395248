"""Files for successors only are there for whoever may have got hold of them, and then they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flows import kept
from support.command import log_directory

import orch
from orch.bus import events as ev
from orch.bus.reader import read
from orch.store.file import FileStore


def files(store: Path) -> list[Path]:
    """What is there of the files that jobs wrote."""
    found = [file for event in read(log_directory(store, "r")) for file in getattr(event, "files", ())]
    paths = [file.path for file in found if isinstance(file, ev.StoredFile)]
    assert len(paths) == 1
    return [path for path in map(FileStore(store).local_path, paths) if path.exists()]


@pytest.mark.parametrize(
    ("way", "result"),
    [("capsule", "capsule"), ("handed on", ["handed on", "handed on"]), ("tail call", "tail")],
)
def test_what_was_handed_on_is_there_until_all_have_read_it(tmp_path: Path, way: str, result: Any) -> None:
    store = tmp_path / "s"
    assert orch.run(kept.main, way, store=store, run_id="r") == result
    assert files(store) == []


@pytest.mark.parametrize("way", ["result", "result of a capsule"])
def test_what_stands_in_the_result_stays(tmp_path: Path, way: str) -> None:
    store = tmp_path / "s"
    value = orch.run(kept.main, way, store=store, run_id="r")
    (there,) = files(store)
    assert there.read_text() == "result" + way.removeprefix("result")
    assert FileStore(store).local_path((value["file"] if isinstance(value, dict) else value).path) == there
