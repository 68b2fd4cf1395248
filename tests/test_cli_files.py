"""`orch files`: what jobs wrote, and copies of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.handmade import created, started, write_run

from orch.bus import events as ev
from orch.cli.main import main
from orch.store.file import FileStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """A run whose jobs wrote two files of the same name, a directory, one that is gone, and one that never counted."""
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "s"))
    monkeypatch.chdir(tmp_path)
    store = FileStore(tmp_path / "s")
    store.create()
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "x").write_text("deep x")
    (source / "out.txt").write_text("one")
    (source / "tool.sh").write_text("#!/bin/sh\n")
    (source / "tool.sh").chmod(0o755)
    first = store.put_file("runs/r/files/000/1.1/0/out.txt", source / "out.txt")
    (source / "out.txt").write_text("second")
    second = store.put_file("runs/r/files/000/2.1/0/out.txt", source / "out.txt")
    tool = store.put_file("runs/r/files/000/0.1/0/tool.sh", source / "tool.sh")
    deep = store.put_directory("runs/r/files/000/2.1/1/deep", source / "deep")
    gone = ev.StoredFile(path="runs/r/files/000/1.1/1/brief.txt", size=9, digest="sha256:1", keep="successors")
    lost = ev.StoredFile(path="runs/r/files/000/1.1/2/lost.txt", size=9, digest="sha256:1")
    events: list[ev.Event] = [
        created("r"),
        ev.Added(job=1, kind="write", name="write(1)"),
        ev.Added(job=2, kind="write", name="write(2)"),
        ev.Planned(count=2, files=[tool]),
        *started(1),
        ev.Succeeded(job=1, attempt=1, files=[first, gone, lost]),
        *started(2),
        ev.Succeeded(job=2, attempt=1, files=[second, deep]),
        ev.Removed(job=1, files=[gone.path]),
    ]
    write_run(tmp_path / "s", "r", events)
    return store


@pytest.mark.usefixtures("store")
def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["files", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(file["job"], file["name"], file["state"]) for file in found] == [
        (0, "tool.sh", "kept"),
        (1, "out.txt", "kept"),
        (1, "brief.txt", "removed"),
        (1, "lost.txt", "missing"),
        (2, "out.txt", "kept"),
        (2, "deep", "kept"),
    ]
    assert found[1]["path"] == "runs/r/files/000/1.1/0/out.txt"
    assert found[5]["directory"] is True
    assert main(["files", "r"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["JOB", "NAME", "FILE", "SIZE", "STATE", "PATH"]
    assert out[2].split() == ["1", "write(1)", "out.txt", "3", "B", "kept", "runs/r/files/000/1.1/0/out.txt"]


@pytest.mark.usefixtures("store")
def test_names_that_several_have_get_the_number_of_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["files", "--fetch", "*", "--to", "copies/here"]) == 0
    to = tmp_path / "copies" / "here"
    assert sorted(os.listdir(to)) == ["deep", "out-1.txt", "out-2.txt", "tool.sh"]
    assert (to / "out-2.txt").read_text() == "second"
    assert (to / "deep" / "x").read_text() == "deep x"
    assert os.access(to / "tool.sh", os.X_OK)
    (to / "out-1.txt").write_text("mine to change")
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(to / name) for name in ("tool.sh", "out-1.txt", "out-2.txt", "deep")]
    assert "brief.txt of job write(1) [1] is not copied: it is removed" in said.err
    assert "lost.txt of job write(1) [1] is not copied: it is missing" in said.err


@pytest.mark.parametrize("glob", ["2/out.txt", "runs/r/files/*/2.1/0/*"])
@pytest.mark.usefixtures("store")
def test_one_of_them(tmp_path: Path, glob: str) -> None:
    assert main(["files", "--fetch", glob, "--to", "c"]) == 0
    assert (tmp_path / "c" / "out.txt").read_text() == "second"


@pytest.mark.usefixtures("store")
def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "c" / "out-2.txt"
    there.parent.mkdir()
    there.write_text("mine")
    assert main(["files", "--fetch", "out.txt", "--to", "c"]) == 2
    assert f"nothing was copied: {there} exists already; --force replaces it" in capsys.readouterr().err
    assert os.listdir(there.parent) == ["out-2.txt"]
    assert there.read_text() == "mine"
    assert main(["files", "--fetch", "out.txt", "--to", "c", "--force"]) == 0
    assert there.read_text() == "second"


@pytest.mark.usefixtures("store")
def test_a_directory_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c" / "out.txt").mkdir(parents=True)
    assert main(["files", "--fetch", "2/out.txt", "--to", "c", "--force"]) == 2
    assert "remove it first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fetch", "*"], "--fetch and --to go together"),
        (["--to", "c"], "--fetch and --to go together"),
        (["--force"], "--force goes with --fetch"),
        (["--fetch", "*.png", "--to", "c"], "run r has no file that is like '*.png'"),
        (["--fetch", "brief*", "--to", "c"], "run r has no file any more that is like 'brief*'"),
    ],
)
@pytest.mark.usefixtures("store")
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["files", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_no_files_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", [created("r"), ev.Planned(count=0)])
    assert main(["files", "--store", str(tmp_path)]) == 0
    assert "have written no files" in capsys.readouterr().err
    assert main(["files", "--json", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"
