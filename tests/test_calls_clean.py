"""What of a deleted run stays for the call cache, and how it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.calls import blob, cache_in, cached_run, call, everything, find, one_call, ref, stored, surveyed, write
from support.handmade import created

from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.reader import read
from orch.calls.remains import drop, prune, strip
from orch.cli.garbage import collect
from orch.cli.main import main
from orch.errors import RunExists
from orch.leader.reserve import reserved
from orch.logtools.named import FileCheck
from orch.store import layout
from orch.store.file import FileStore
from orch.store.runs import list_runs

LATER = "9999"
"""After any time that a log has."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    found = FileStore(tmp_path / "s")
    found.create()
    monkeypatch.setenv("ORCH_STORE", str(found.root))
    return found


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return cache_in(tmp_path / "cache")


def taking(store: FileStore, run: str, source: str, text: str = "x") -> None:
    """A run that takes the value of `source`."""
    found = next(one for one in everything(store, cache_in(store.root.parent / "own")) if one.entry.run == source)
    reused = ev.Reused(job=1, run=source, source=found.entry.job, values=found.entry.values, files=found.entry.files)
    head = [created(run), ev.Added(job=1, kind="f", cache=True), ev.Planned(count=1, refs=[1])]
    write(store, run, [*head, *surveyed(1, call(text)), reused])


def test_what_its_calls_need_stays(store: FileStore, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    kept = cached_run(store)
    write(store, "b", [created("b")])
    before = find(store, "b", env, call("x"))
    assert before is not None
    assert main(["clean", "a", "--yes"]) == 0
    assert "deleted run a, but for what the call cache needs (calls: 1)" in capsys.readouterr().err
    assert sorted(store.list("runs/a")) == kept
    assert not list(store.local_path("runs/a").rglob("logs"))
    assert list_runs(store) == ["b"]
    assert find(store, "b", env, call("x")) == before
    assert find(store, "b", cache_in(store.root.parent / "another"), call("x")) == before
    assert main(["clean", "a", "--yes"]) == 0
    assert main(["log", "verify", "--store", str(store.root)]) == 0
    assert sorted(store.list("runs/a")) == kept


def test_a_run_without_calls_goes_as_a_whole(store: FileStore) -> None:
    cached_run(store)
    write(store, "b", [created("b"), ev.Added(job=1, kind="f"), ev.Planned(count=1), *surveyed(1, call("y"))])
    assert main(["clean", "b", "--yes"]) == 0
    assert not store.exists("runs/b")


def test_calls_that_are_good_for_nothing_keep_nothing(store: FileStore) -> None:
    cached_run(store)
    store.delete(stored(store, "a", b"given", job=5).path)
    assert main(["clean", "a", "--yes"]) == 0
    assert not store.exists("runs/a")


def test_the_id_is_not_free(store: FileStore) -> None:
    cached_run(store)
    strip(store, "a")
    with (
        pytest.raises(RunExists, match="choose another id, or drop that with: orch clean --cache"),
        reserved(store, "a"),
    ):
        pass
    assert main(["status", "a"]) == 2


def test_all_that_is_kept_is_dropped(store: FileStore, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(store, "b", [created("b")])
    for run in ("a", "c"):
        cached_run(store, run, f"x{run}")
        strip(store, run)
    assert find(store, "b", env, call("xa")) is not None
    assert main(["clean", "--cache"]) == 2
    assert "confirm with --yes" in capsys.readouterr().err
    assert main(["clean", "--cache", "--yes"]) == 0
    assert "8 files (calls: 2)" in capsys.readouterr().err
    assert list(store.list("runs/a")) == []
    assert not store.exists("runs/c")
    assert find(store, "b", env, call("xa")) is None
    assert main(["clean", "--cache"]) == 0
    assert "keeps nothing of deleted runs" in capsys.readouterr().err


def test_only_what_is_old_enough_is_dropped(store: FileStore) -> None:
    cached_run(store, "a", "x")
    cached_run(store, "c", "y")
    for run in ("a", "c"):
        strip(store, run)
    second = everything(store, cache_in(store.root.parent / "cache"))[1].entry
    freed = drop(store, second.time)
    assert (freed.calls, freed.count, freed.notes) == (1, 4, [])
    assert not store.exists("runs/a")
    assert store.exists("runs/c")


def test_of_a_run_some_calls_are_dropped(store: FileStore, env: dict[str, str]) -> None:
    """Those that another run has taken stay; the others go, those without files too."""
    file = stored(store, "a", b"one")
    lines = one_call("a", "x", ref(file), files=[file])
    lines[1:3] = [lines[1], ev.Added(job=2, kind="f"), ev.Planned(count=2, refs=[1])]
    write(store, "a", [*lines, *surveyed(2, call("y")), ev.Succeeded(job=2, attempt=2, value=blob(8))])
    taking(store, "b", "a")
    strip(store, "a")
    assert find(store, "b", env, call("y")) is not None
    freed = drop(store, LATER)
    assert freed.calls == 1
    assert freed.notes == ["kept, since runs that are there have taken their values: 1 of the calls"]
    assert find(store, "b", env, call("y")) is None
    assert find(store, "b", env, call("x")) is not None


def test_what_other_kept_calls_name_stays(store: FileStore) -> None:
    """The call of b has a file of a in its value; a run that is there has taken it, and a is deleted, and so is b."""
    file = stored(store, "a", b"one")
    write(store, "a", one_call("a", "x", ref(file), files=[file]))
    taking(store, "b", "a")
    write(
        store,
        "b",
        [
            ev.Added(job=2, kind="g", by=1, attempt=3),
            *surveyed(2, call("y")),
            ev.Succeeded(job=2, attempt=2, value=blob([ref(file)])),
        ],
    )
    taking(store, "c", "b", "y")
    for run in ("a", "b"):
        assert strip(store, run) is not None
    assert drop(store, LATER).calls == 0
    assert store.exists(file.path)
    assert main(["clean", "c", "--yes"]) == 0
    assert drop(store, LATER).calls == 2
    assert list(store.list("runs")) == []


def test_nothing_is_dropped_while_a_leader_may_take_it(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    cached_run(store)
    strip(store, "a")
    write(store, "b", [created("b")])
    lock = RunLock(store.local_path(layout.lock_file("b")))
    lock.acquire()
    try:
        assert main(["clean", "--cache", "--yes"]) == 3
    finally:
        lock.release()
    assert "run b has a live leader" in capsys.readouterr().err
    assert store.exists("runs/a")


def test_remains_that_cannot_be_read_are_left_alone(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    cached_run(store)
    strip(store, "a")
    store.write_bytes(layout.calls_file("a"), b"{}")
    count = len(list(store.list("runs/a")))
    assert main(["clean", "--cache", "--yes"]) == 0
    assert "what is left of the deleted run a is left alone" in capsys.readouterr().err
    assert main(["clean", "--garbage"]) == 0
    assert "what is left of the deleted run a is left alone" in capsys.readouterr().err
    assert len(list(store.list("runs/a"))) == count


def test_a_damaged_run_keeps_nothing(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    cached_run(store)
    segment = next(store.local_path("runs/a/log").iterdir())
    segment.write_bytes(segment.read_bytes().replace(b"created", b"creaked"))
    assert main(["clean", "a", "--yes"]) == 0
    assert "nobody can tell what the call cache needs of it" in capsys.readouterr().err
    assert not store.exists("runs/a")


def test_garbage_finishes_what_was_begun(store: FileStore) -> None:
    kept = cached_run(store)
    surplus = stored(store, "a", b"surplus", job=7)
    strip(store, "a")
    stored(store, "a", b"surplus", job=7)
    assert collect(store).count == 1
    assert sorted(store.list("runs/a")) == kept
    assert not store.local_path(surplus.path).parent.parent.exists()


def test_a_directory_that_a_call_has_may_have_empty_ones_in_it(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "d" / "empty").mkdir(parents=True)
    (tmp_path / "d" / "file").write_text("x")
    found = store.put_directory(f"{layout.files_dir('a', 1, 2)}/0/d", tmp_path / "d")
    write(store, "a", one_call("a", "x", 1, files=[found]))
    strip(store, "a")
    prune(store, "a")
    assert sorted(path.name for path in store.local_path(found.path).iterdir()) == ["empty", "file"]


def test_files_of_other_runs_are_looked_for_there(store: FileStore) -> None:
    """And what was removed on purpose is not missed."""
    cached_run(store)
    taking(store, "b", "a")
    away = stored(store, "b", b"away", job=2)
    store.delete(away.path)
    last = [ev.Added(job=2, kind="g", by=0, attempt=1), ev.Succeeded(job=2, attempt=1, files=[away])]
    write(store, "b", [*last, ev.Removed(job=2, files=[away.path])])
    check = FileCheck(store.local_path("runs/b"), "b")
    for event in read(store.local_path("runs/b/log")):
        check(event)
    assert (check.count, check.gone) == (3, [])
    collect(store)
    store.delete(layout.value_file("a", 1, 2))
    check = FileCheck(store.local_path("runs/b"), "b")
    for event in read(store.local_path("runs/b/log")):
        check(event)
    assert len(check.gone) == 1
