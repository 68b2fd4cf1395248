"""`orch clean` takes along what `--clean-scratch` has kept of a run, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.command import orch, status
from support.handmade import created, started, write_run

from orch.agent.paths import host_name, runtime_directory
from orch.bus import events as ev
from orch.cli.main import main
from orch.work.spares import KEPT, NOTE
from orch.work.surroundings import scratch_name

FLOW = """
import orch

@orch.job
def stubborn(n):
    scratch = orch.context().scratch
    (scratch / "deep").mkdir()
    (scratch / "deep" / "file").write_text("x")
    (scratch / "deep").chmod(0)
    (scratch / "link").symlink_to("/")

@orch.workflow
def main():
    return [stubborn(n) for n in range(2)]
"""


def test_what_was_kept_goes_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    for run in ("r", "r.1"):
        orch("run", "--run-id", run, "--work-dir", "w", "--clean-scratch", "never", "wf.py", cwd=tmp_path)
    others = [job["annotations"][NOTE] for job in status(tmp_path / ".orch", "r.1")["jobs"].values()]
    assert len(list(tmp_path.glob("w/*/*/kept/*"))) == 4
    done = orch("clean", "r", "--yes", cwd=tmp_path)
    assert done.stderr.splitlines() == ["deleted run r"]
    assert sorted(map(str, tmp_path.glob("w/*/*/kept/*"))) == sorted(others)
    assert orch("clean", "--older-than", "0s", "--yes", cwd=tmp_path).returncode == 0
    assert list(tmp_path.glob("w/*/*/kept/*")) == []


class Place:
    """A store `s` and the directory in which its agent puts things aside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "s"
        self.store.mkdir()
        self.kept = Path(runtime_directory(str(self.store), str(root / "w"), {}), KEPT)

    def keep(self, name: str = "", at: Path | None = None) -> Path:
        """Something that was kept, of the attempt r.1.1 if nothing else is said."""
        path = (at or self.kept) / (name or scratch_name("r.1.1"))
        path.mkdir(parents=True)
        (path / "file").write_text("x")
        return path

    def clean(self, *said: object, run: str = "r", begun: str = "r") -> int:
        """Deletes a run in whose log the first attempt of job 1 says so."""
        notes = [ev.Annotated(job=1, attempt=1, name=NOTE, value=value) for value in said]
        ended: list[ev.Event] = [ev.Succeeded(job=1, attempt=1), ev.Ended(outcome="succeeded")]
        begin = [created(begun), ev.Added(job=1, kind="a"), ev.Planned(count=1), *started(1, run=begun)]
        write_run(self.store, run, [*begin, *notes, *ended], close="ended")
        return main(["clean", run, "--yes", "--store", str(self.store)])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_all_that_one_attempt_has_left(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Under its name, and under that with a number, of an earlier run of the same name."""
    paths = [place.keep(), place.keep(f"{scratch_name('r.1.1')}.2")]
    gone = place.kept / f"{scratch_name('r.1.1')}.3"
    assert place.clean(*map(str, [*paths, gone])) == 0
    assert os.listdir(place.kept) == []
    assert capsys.readouterr().err == "deleted run r\n"


def test_what_a_job_says_is_not_believed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    other = place.keep(scratch_name("r.2.1"))
    outside = place.keep(at=place.root / "kept")
    elsewhere = place.keep(at=place.root / "home")
    said = [other, outside, elsewhere, place.kept, place.root, "/", "kept", 3, None, [1], f"{place.kept}/../{KEPT}/.."]
    assert place.clean(*(str(each) if isinstance(each, Path) else each for each in said)) == 0
    assert [path.exists() for path in (other, outside, elsewhere)] == [True] * 3
    err = capsys.readouterr().err
    assert f"a scratch directory that was kept of run r is left, on another host or not of this store: {outside}" in err
    assert str(other) not in err


def test_links_are_not_followed(place: Place) -> None:
    home = place.keep(at=place.root / "home")
    place.kept.symlink_to(home.parent)
    assert place.clean(str(place.kept / home.name)) == 0
    assert (home / "file").exists()
    place.kept.unlink()
    place.kept.mkdir()
    (place.kept / home.name).symlink_to(home)
    assert place.clean(str(place.kept / home.name)) == 0
    assert (home / "file").exists()


def test_what_is_on_another_host_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    there = str(place.kept / scratch_name("r.1.1")).replace(f"/{host_name()}/", "/elsewhere/")
    assert place.clean(there) == 0
    assert f"is left, on another host or not of this store: {there}" in capsys.readouterr().err
    shared = place.keep(at=Path(there).parent)
    assert place.clean(there) == 0
    assert not shared.exists()


def test_a_copy_leaves_what_the_original_has_kept(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.keep()
    assert place.clean(str(path), run="copy", begun="r") == 0
    assert path.exists()
    assert capsys.readouterr().err == "deleted run copy\n"
    place.store = Path(shutil.copytree(place.store, place.root / "other"))
    assert place.clean(str(path)) == 0
    assert path.exists()
    assert str(path) in capsys.readouterr().err
