"""What jobs and programs are lent by the store they cannot change there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.attempts import World

import orch
from orch.attempt import Reason
from orch.errors import UserError
from orch.work import staging
from orch.work.transfer import export


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["a user", "root"])
def somebody(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the jobs: gets links, or copies."""
    monkeypatch.setattr(staging, "bound_by_permissions", lambda: request.param == "a user")


@orch.job
def call(work: Any) -> Any:
    return work()


def write() -> Any:
    here = orch.context()
    for name in ("tree/below/b.txt", "a.txt"):
        path = here.scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("hello\n")
    return here.write_file(here.scratch / "a.txt"), here.write_dir(here.scratch / "tree")


@pytest.fixture
def refs(world: World) -> Any:
    return world.value(call(write))


def stored(world: World, ref: Any) -> Path:
    return world.store.local_path(ref.path)


def test_stored_files_are_read_only_and_can_be_deleted(world: World, refs: Any) -> None:
    file, tree = refs
    assert stored(world, file).stat().st_mode & 0o777 == 0o400
    assert (stored(world, tree) / "below" / "b.txt").stat().st_mode & 0o777 == 0o400
    for ref in refs:
        world.store.delete(ref.path)
        assert not stored(world, ref).exists()


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    "script", ['rm "$0"', 'mv "$0" x', 'sed -i s/hello/bye/ "$0"', 'gzip -f "$0"', 'cp /dev/null x && mv -f x "$0"']
)
def test_a_program_that_replaces_its_file_touches_only_its_own(world: World, refs: Any, script: str) -> None:
    file, _ = refs
    world.evaluate(orch.command(["sh", "-c", script, file]))
    world.evaluate(orch.command(["sh", "-c", script, "in.txt"], inputs={"in.txt": file}))
    assert stored(world, file).read_text() == "hello\n"


def test_writing_in_place_does_not_reach_the_store(world: World, refs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "bound_by_permissions", lambda: False)
    file, tree = refs
    script = 'echo junk >> "$0"; echo junk >> "$1/below/b.txt"; echo junk >> in.txt; echo junk >> /dev/fd/0'
    world.evaluate(orch.command(["sh", "-c", script, file, tree], inputs={"in.txt": file}, stdin=file))
    assert stored(world, file).read_text() == "hello\n"
    assert (stored(world, tree) / "below" / "b.txt").read_text() == "hello\n"


@pytest.mark.usefixtures("somebody")
def test_a_directory_is_lent_entry_by_entry(world: World, refs: Any) -> None:
    _, tree = refs

    def change() -> Any:
        path = orch.context().read_file(tree)
        (path / "more").write_text("")
        (path / "below" / "b.txt").unlink()
        return sorted(os.listdir(path))

    assert world.value(call(change)) == ["below", "more"]
    assert [path.name for path in stored(world, tree).rglob("*")] == ["below", "b.txt"]


@pytest.mark.usefixtures("somebody")
def test_what_is_lent_is_staged_once_and_again_where_it_was_changed(world: World, refs: Any) -> None:
    file, _ = refs

    def look() -> Any:
        here = orch.context()
        first, second = here.read_file(file), here.read_file(file)
        first.unlink()
        return first == second, here.read_file(file).read_text(), here.write_dir(here.scratch).size

    assert world.value(call(look)) == (True, "hello\n", 0)


@pytest.mark.usefixtures("somebody")
def test_a_changed_input_that_is_an_output_is_stored_anew(world: World, refs: Any) -> None:
    file, _ = refs
    options: Any = {"inputs": {"in.txt": file}, "outputs": {"in": "in.txt", "all": "**/*.txt"}}
    changed = world.evaluate(orch.command(["sed", "-i", "s/hello/bye/", "in.txt"], **options))
    assert world.store.read_bytes(changed.outputs["in"].path) == b"bye\n"
    same = world.evaluate(orch.command(["cat", file], **options))
    assert (same.outputs["in"], same.outputs["all"]) == (file, [])


def test_a_file_that_was_changed_is_not_used(world: World, refs: Any, tmp_path: Path) -> None:
    file, tree = refs
    for ref, path in ((file, stored(world, file)), (tree, stored(world, tree) / "below" / "b.txt")):
        path.chmod(0o644)
        path.write_text("hello, hello\n")
        for use in (
            lambda ref=ref: orch.context().read_file(ref),
            lambda ref=ref: orch.context().read_file(ref, to="x", mutable=True),
        ):
            outcome = world.outcome(call(use))
            assert outcome.reason == Reason.FAILED
            assert f"{ref.name!r} was changed after it was stored" in outcome.message
            assert "has 13 bytes, and 6 were written" in outcome.message
        with pytest.raises(UserError, match="was changed after it was stored"):
            export(stored(world, ref), ref, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_exported_directories_have_the_usual_permissions(world: World, refs: Any, tmp_path: Path) -> None:
    _, tree = refs
    (tmp_path / "usual").mkdir()
    top = export(stored(world, tree), tree, tmp_path / "out" / "tree")
    for made in (top.parent, top, top / "below"):
        assert made.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (top / "below" / "b.txt").stat().st_mode & 0o777 == 0o644


def test_large_files_are_links_also_for_root(world: World, refs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = refs
    monkeypatch.setattr(staging, "bound_by_permissions", lambda: False)
    look = call(lambda: orch.context().read_file(file).is_symlink())
    assert world.value(look) is False
    monkeypatch.setattr(staging, "PRIVATE_LIMIT", 5)
    assert world.value(look) is True
