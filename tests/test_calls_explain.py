"""`orch why`: why a value was taken from an earlier call, or what differs from the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.calls import cache_in, call, done, one_call, ref, stored, surveyed, write
from support.handmade import created

from orch.bus import events as ev
from orch.calls.explain import explain_call
from orch.calls.source import entries
from orch.store.file import FileStore

NEAREST = " (compared with the nearest earlier call, run a job 1)"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    found = FileStore(tmp_path / "s")
    found.create()
    return found


def why(store: FileStore, run: str = "b", job: int = 1, now: str = "") -> list[str]:
    return explain_call(store, run, job, cache_in(store.root.parent / "cache"), now)


def test_taken(store: FileStore) -> None:
    file = stored(store, "a", b"x")
    write(store, "a", one_call("a", "x", ref(file), files=[file]))
    entry = next(entries(store, "a"))
    head = [created("b"), ev.Added(job=1, kind="f", cache=True), ev.Planned(count=1), *surveyed(1, call("x"))]
    write(store, "b", [*head, ev.Reused(job=1, run="a", source=1, values=entry.values, files=entry.files)])
    day = f"{int(entry.time[:4]) + 1}{entry.time[4:]}"
    assert why(store, now=day) == ["taken from run a job 1 (computed 365d ago)"]
    store.delete(file.path)
    assert why(store, now=day) == [f"taken from run a job 1 (computed 365d ago), but {file.path} is gone"]
    store.delete_tree("runs/a")
    assert why(store) == ["taken from run a job 1, which is not there any more"]


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ({"x": "1"}, {"x": "2"}, "argument 'x' differs"),
        ({"x": "1", "y": "1"}, {"x": "2", "z": "1"}, None),
        ({"function": "g"}, {"function": "f"}, "the function differs"),
    ],
)
def test_what_differs(store: FileStore, now: dict[str, str], then: dict[str, str], said: str | None) -> None:
    write(store, "a", one_call("a", "then", parts=then))
    write(store, "b", one_call("b", "now", parts=now))
    said = said or "argument 'x' differs, argument 'y' was not there and argument 'z' is not there any more"
    assert why(store) == [f"ran, because {said}{NEAREST}"]
    assert why(store, "a") == ["ran, because there is no earlier call of this kind"]


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ("one", "two", "the code differs"),
        ("version:2", "version:1", "the version is '2' and was '1'"),
        ("version:2", "one", "the code differs"),
    ],
)
def test_other_code(store: FileStore, now: str, then: str, said: str) -> None:
    for run, code in (("a", then), ("b", now)):
        events = one_call(run, code)
        made = ev.Call(digest=f"sha256:{code}", code=code, parts={"function": "f", "x": "1"})
        write(store, run, [*events[:3], *surveyed(1, made), *done(1)])
    assert why(store) == [f"ran, because {said}{NEAREST}"]


def test_the_nearest_is_that_with_the_most_in_common(store: FileStore) -> None:
    write(store, "a", one_call("a", "1", parts={"x": "1", "y": "1"}))
    write(store, "c", one_call("c", "2", parts={"x": "2", "y": "2"}))
    write(store, "b", one_call("b", "3", parts={"x": "1", "y": "2", "z": "1"}))
    write(store, "d", one_call("d", "4", parts={"x": "1", "y": "1", "z": "1"}))
    assert why(store, "d")[0].endswith("run b job 1)")
    assert why(store, "b")[0].endswith("run c job 1)")  # as much in common as with a, and newer


def test_an_equal_call_that_is_not_whole(store: FileStore) -> None:
    path = "runs/a/values/000/1.2.value"
    store.write_bytes(path, b"\x80\x05N.")
    head = one_call("a", "x")[:-1]
    write(store, "a", [*head, ev.Succeeded(job=1, attempt=2, value=ev.Blob(file=path, size=4))])
    write(store, "b", one_call("b", "x"))
    assert why(store) == ["ran, though there is an equal call (run a job 1), but could not be taken then"]
    store.delete(path)
    assert why(store) == [f"ran, though there is an equal call (run a job 1), but {path} is gone"]


def test_jobs_that_are_not_cached(store: FileStore) -> None:
    write(
        store,
        "b",
        [
            created("b"),
            ev.Added(job=1, kind="f"),
            ev.Added(job=2, kind="f", cache=True),
            ev.Added(job=3, kind="f", cache=True),
            ev.Planned(count=3),
            ev.Submitting(job=2, attempt=1, key="b.2.1", survey=True),
            ev.Surveyed(job=2, attempt=1, resources=ev.Resources()),
            ev.Warned(job=2, message="f [2] cannot be cached: argument 'x': a lock has no digest"),
        ],
    )
    assert why(store, job=1) == []
    assert why(store, job=2) == ["cannot be cached: argument 'x': a lock has no digest"]
    assert why(store, job=3) == []
    assert why(store, job=9) == []


def test_runs_without_the_cache(store: FileStore) -> None:
    off = ev.Created(run="b", settings={"cache": "off"})
    write(store, "b", [off, ev.Added(job=1, kind="f", cache=True), ev.Added(job=2, kind="f"), ev.Planned(count=2)])
    assert why(store, job=1) == ["the call cache is not used by this run (--no-cache)"]
    assert why(store, job=2) == []


def test_an_index_that_cannot_be_used(store: FileStore) -> None:
    write(store, "b", one_call("b", "x"))
    (store.root.parent / "cache").write_text("a file")
    assert why(store)[0].startswith("the call cache cannot be asked: the directory ")
