"""The call cache: what is found, what is not, and what becomes of an index that is damaged, old, or not ours."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.calls import (
    blob,
    cache_in,
    call,
    done,
    everything,
    find,
    learned,
    one_call,
    stored,
    surveyed,
    using,
    write,
)
from support.handmade import created

from orch.bus import events as ev
from orch.calls.cache import CallCache, remove_files
from orch.calls.place import index_stem, is_remote
from orch.files import FileRef
from orch.store import layout
from orch.store.file import TEMPORARY, FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    found = FileStore(tmp_path / "s")
    found.create()
    return found


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return cache_in(tmp_path / "cache")


def database(store: FileStore, env: dict[str, str]) -> Path:
    """The file that the index is in now."""
    stem = index_stem(store.root, env)
    return max(stem.parent.glob(f"{stem.name}.*.sqlite"))


def test_an_equal_call_is_found_and_no_other(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", one_call("a", "x", 7))
    write(store, "b", one_call("b", "y", 8))
    found = find(store, "b", env, call("x"))
    assert found is not None
    assert (found.run, found.source, found.values) == ("a", 1, [ev.Kept(blob(7))])
    assert find(store, "b", env, call("z")) is None


def test_the_newest_of_several_counts(store: FileStore, env: dict[str, str]) -> None:
    for run in ("b", "a", "c"):
        write(store, run, one_call(run, "x", run))
    found = find(store, "a", env, call("x"))
    assert found is not None
    assert found.run == "c"


def test_what_is_learned_is_found_at_once_and_read_again_later(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", one_call("a", "x"))
    write(store, "b", [created("b")])
    late = one_call("b", "y")[1:]

    async def learn(cache: CallCache) -> None:
        assert (await cache.find([(1, call("y"))])) == {1: None}
        write_later = anyio.to_thread.run_sync
        await write_later(write, store, "b", late)
        await cache.learn(learned(store, "b"))
        found = (await cache.find([(1, call("y"))]))[1]
        assert found is not None
        assert found.run == "b"

    assert using(store, "b", env, learn) == []
    incremental = everything(store, env)
    assert [one.entry.run for one in incremental] == ["a", "b"]
    database(store, env).unlink()
    assert everything(store, env) == incremental


def test_values_in_values(store: FileStore, env: dict[str, str]) -> None:
    """The value of f is that of g, which it made; in it stands h's, which took its value from elsewhere."""
    taken = [ev.Kept(blob("h"), [1]), ev.Kept(blob("below"))]
    write(
        store,
        "a",
        [
            created("a"),
            ev.Added(job=1, kind="f", cache=True),
            ev.Planned(count=1, refs=[1]),
            *surveyed(1, call("x")),
            ev.Added(job=2, kind="g", by=1, attempt=2),
            ev.Added(job=3, kind="h", by=1, attempt=2, cache=True),
            *done(1, None, refs=[2], alias=True, added=2),
            *done(2, "g", refs=[3]),
            *surveyed(3, call("h")),
            ev.Reused(job=3, run="z", source=5, values=taken),
        ],
    )
    found = find(store, "a", env, call("x"))
    assert found is not None
    assert found.values == [ev.Kept(blob("g"), [1]), ev.Kept(blob("h"), [2]), ev.Kept(blob("below"))]
    assert find(store, "a", env, call("h")) is None  # it is run z's, which is not there


@pytest.mark.parametrize("last", ["nothing", "failed", "rewound"])
def test_a_call_counts_once_all_that_it_made_is_done(store: FileStore, env: dict[str, str], last: str) -> None:
    ends: dict[str, list[ev.Event]] = {
        "nothing": [],
        "failed": [ev.Failed(job=2, attempt=1, reason="FAILED")],
        "rewound": [ev.Rewound(job=1, failed=2)],
    }
    first = [
        created("a"),
        ev.Added(job=1, kind="f", cache=True),
        ev.Planned(count=1, refs=[1]),
        *surveyed(1, call("x")),
        ev.Added(job=2, kind="child", by=1, attempt=2),
        *done(1, 5, added=1),
    ]
    write(store, "a", [*first, *ends[last]])
    assert find(store, "a", env, call("x")) is None
    if last == "nothing":
        write(store, "a", [ev.Succeeded(job=2, attempt=1)])
        assert find(store, "a", env, call("x")) is not None


def test_jobs_that_were_never_counted_are_not_waited_for(store: FileStore, env: dict[str, str]) -> None:
    orphan = [*one_call("a", "x")[:-1], ev.Added(job=2, kind="g", by=1, attempt=2)]
    write(store, "a", orphan)
    assert find(store, "a", env, call("x")) is None
    write(store, "a", [ev.Succeeded(job=1, attempt=2, value=blob(1))])
    assert find(store, "a", env, call("x")) is not None


# Files ------------------------------------------------------------------------------------------------------------


def run_with_file(store: FileStore) -> ev.StoredFile:
    """A run whose call has a file in its value."""
    file = stored(store, "a", b"contents")
    write(store, "a", one_call("a", "x", FileRef("name", file.path, file.size, file.digest), files=[file]))
    return file


@pytest.mark.parametrize("change", ["gone", "shorter", "run"])
def test_what_is_not_whole_is_not_found(store: FileStore, env: dict[str, str], change: str) -> None:
    path = store.local_path(run_with_file(store).path)
    write(store, "b", [created("b")])
    found = find(store, "b", env, call("x"))
    assert found is not None
    assert [file.path for file in found.files] == [str(path.relative_to(store.root))]
    if change == "gone":
        path.unlink()
    elif change == "shorter":
        path.write_bytes(b"short")
    else:
        store.delete_tree(layout.run_dir("a"))
    assert find(store, "b", env, call("x")) is None
    assert everything(store, env) == []


def test_a_large_value_that_is_gone(store: FileStore, env: dict[str, str]) -> None:
    path = layout.value_file("a", 1, 2)
    digest = store.write_bytes(path, b"\x80\x05N.")
    events = one_call("a", "x")
    events[-1] = ev.Succeeded(job=1, attempt=2, value=ev.Blob(file=path, size=4, digest=digest))
    write(store, "a", events)
    write(store, "b", [created("b")])
    assert find(store, "b", env, call("x")) is not None
    store.delete(path)
    assert find(store, "b", env, call("x")) is None


def test_a_file_that_was_only_passed_on(store: FileStore, env: dict[str, str]) -> None:
    """Another job wrote it; the value names it all the same, as a reference, or in a text."""
    file = stored(store, "a", b"given", job=5)
    ref = FileRef("a name", file.path, file.size, file.digest)
    for run, value in (("a", {"in": [ref]}), ("b", f"see {ref}")):
        write(store, run, one_call(run, f"x{run}", value))
    assert [one.entry.mentions for one in everything(store, env)] == [["runs/a/files/000/5.2/0"]] * 2
    os.rename(store.local_path(file.path), store.local_path(file.path).parent / f"{TEMPORARY}left")
    assert find(store, "a", env, call("xa")) is None
    assert find(store, "a", env, call("xb")) is None


def test_a_file_that_a_call_has_is_not_removed(store: FileStore, env: dict[str, str]) -> None:
    kept = run_with_file(store)
    other = stored(store, "a", b"other", number=1)

    async def remove(cache: CallCache) -> None:
        await cache.remove([kept.path, other.path, "runs/a/files/000/8.2/0/never"])
        await cache.remove([other.path])

    assert using(store, "a", env, remove) == []
    assert store.exists(kept.path)
    assert not store.local_path(other.path).parent.exists()


def test_files_are_removed_without_an_index_where_there_are_no_calls(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", [created("a")])
    file = stored(store, "a", b"x")

    async def remove(cache: CallCache) -> None:
        await cache.remove([file.path])

    assert using(store, "a", env, remove) == []
    assert list(store.list("runs/a/files")) == []
    assert not store.local_path("runs/a/files/000/1.2").exists()
    assert not Path(env["XDG_CACHE_HOME"]).exists()


def test_removing_twice(store: FileStore) -> None:
    file = stored(store, "a", b"x")
    remove_files(store, [file.path, file.path])
    remove_files(store, [file.path])


# The index itself -------------------------------------------------------------------------------------------------


def test_it_is_for_this_user_only(store: FileStore, env: dict[str, str], tmp_path: Path) -> None:
    write(store, "a", one_call("a", "x"))
    old = os.umask(0)
    try:
        assert find(store, "a", env, call("x")) is not None
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "cache").rglob("*")}
    assert {mode for name, mode in modes.items() if "sqlite" in name} == {0o600}
    assert {mode for name, mode in modes.items() if "sqlite" not in name} == {0o700}


def damage_text(path: Path) -> None:
    path.write_text("no database at all, but long enough to be taken for one" * 100)


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 3 * 4096] = os.urandom(2 * 4096)
    path.write_bytes(data)


def damage_row(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE calls SET entry = replace(hex(entry), '0', '1')")
    database.close()


def damage_table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE calls")
        database.execute("CREATE TABLE calls (other INTEGER)")
    database.close()


@pytest.mark.parametrize("damage", [damage_text, damage_page, damage_row, damage_table, Path.unlink])
def test_one_that_is_damaged_is_made_anew(store: FileStore, env: dict[str, str], damage: Any) -> None:
    for run in ("a", "b", "c"):
        write(store, run, one_call(run, f"x{run}"))
    before = everything(store, env)
    assert len(before) == 3
    damage(database(store, env))
    for run in ("a", "b", "c"):
        assert find(store, "a", env, call(f"x{run}")) is not None
    assert everything(store, env) == before
    assert len(list(database(store, env).parent.glob("*.sqlite"))) == 1


def test_one_that_is_damaged_while_it_is_open(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", one_call("a", "x"))

    async def use(cache: CallCache) -> None:
        assert (await cache.find([(1, call("x"))]))[1] is not None
        await anyio.to_thread.run_sync(damage_row, database(store, env))
        assert (await cache.find([(1, call("x"))]))[1] is not None

    assert using(store, "a", env, use) == []


@pytest.mark.parametrize("trouble", ["writable", "no directory"])
def test_where_there_can_be_none_there_is_a_warning_and_no_more(
    store: FileStore, env: dict[str, str], trouble: str
) -> None:
    write(store, "a", one_call("a", "x"))
    place = Path(env["XDG_CACHE_HOME"])
    if trouble == "writable":
        (place / "orch" / "calls").mkdir(parents=True)
        (place / "orch" / "calls").chmod(0o777)
    else:
        place.write_text("a file")
    file = stored(store, "a", b"x", number=3)

    async def use(cache: CallCache) -> None:
        assert await cache.find([(1, call("x"))]) == {1: None}
        assert await cache.find([(2, call("x"))]) == {2: None}
        await cache.learn([])
        await cache.remove([file.path])

    warnings = using(store, "a", env, use)
    assert len(warnings) == 1
    assert warnings[0].startswith("the call cache cannot be used: ")
    assert str(place) in warnings[0]
    assert store.exists(file.path)  # nobody can tell whether a call has it


def test_a_run_that_was_deleted_and_begun_again(store: FileStore, env: dict[str, str]) -> None:
    """Its files have the same names and sizes."""
    run_with_file(store)
    write(store, "b", [created("b")])

    async def use(cache: CallCache) -> None:
        assert (await cache.find([(1, call("x"))]))[1] is not None
        store.delete_tree(layout.run_dir("a"))
        stored(store, "a", b"CONTENTS")
        await anyio.to_thread.run_sync(write, store, "a", [created("a")])
        assert (await cache.find([(1, call("x"))]))[1] is None

    assert using(store, "b", env, use) == []
    assert everything(store, env) == []


def test_calls_of_a_run_that_was_begun_again_are_forgotten(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", one_call("a", "x"))
    assert len(everything(store, env)) == 1
    store.delete_tree(layout.run_dir("a"))
    write(store, "a", one_call("a", "y")[:-1])
    assert everything(store, env) == []


def test_logs_that_cannot_be_read_offer_nothing(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", one_call("a", "x"))
    write(store, "b", one_call("b", "y"))
    segment = store.local_path(layout.log_dir("b")) / "000001.events.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"job":1', b'"job":2', 1))
    write(store, "c", [created("c"), *surveyed(5, call("z"))])  # of a job that was never added
    assert [one.entry.run for one in everything(store, env)] == ["a"]


def test_a_copy_of_a_run_offers_nothing(store: FileStore, env: dict[str, str]) -> None:
    write(store, "a", one_call("a", "x"))
    os.rename(store.local_path("runs/a"), store.local_path("runs/copy"))
    assert everything(store, env) == []


def test_several_processes_at_once_of_which_one_is_killed(store: FileStore, env: dict[str, str]) -> None:
    """The killed one is in the midst of a transaction."""
    for number in range(8):
        write(store, f"r{number}", one_call(f"r{number}", f"x{number}"))
    find(store, "r0", env, call("x0"))
    code = (
        "import sqlite3, sys, os, time\n"
        "d = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "d.execute('BEGIN IMMEDIATE')\n"
        "d.execute('DELETE FROM calls')\n"
        "print('begun', flush=True)\n"
        "sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(database(store, env))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        finder = (
            "import sys; from support.calls import *; s = FileStore(sys.argv[1]); e = cache_in(Path(sys.argv[2]))\n"
        )
        finder += "assert all(find(s, 'r0', e, call(f'x{n}')) is not None for n in range(8))"
        others = [
            subprocess.Popen(
                [sys.executable, "-c", finder, str(store.root), env["XDG_CACHE_HOME"]],
                cwd=Path(__file__).parent,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            )
            for _ in range(2)
        ]
        write(store, "late", one_call("late", "late"))
        writer.send_signal(signal.SIGKILL)
    assert [other.wait(60) for other in others] == [0, 0]
    assert len(everything(store, env)) == 9


def test_a_file_system_that_hosts_share(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:5 / /ho\\040me rw,nosuid shared:1 - nfs4 server:/home rw\n"
        "3 2 0:5 / /ho\\040me/local rw - xfs /dev/sdb rw\n"
    )
    for path, remote in (("/ho me/x", True), ("/ho me", True), ("/ho mes", False), ("/ho me/local/x", False)):
        assert is_remote(Path(path), str(mounts)) is remote
    assert not is_remote(Path("/"), str(tmp_path / "nothing"))
