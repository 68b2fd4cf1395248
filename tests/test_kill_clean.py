"""`orch clean` is killed before every third change that it makes to the file system, nightly before every one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from support.calls import cache_in, cached_run, call, find, write
from support.command import orch, running, until
from support.handmade import created
from support.kills import NIGHTLY, Case, agent_ends

from orch.bus.events import Planned, Running, Warned
from orch.store.file import FileStore
from orch.store.runs import list_runs

KILLED = -signal.SIGKILL
MOST = 200
STEP = 1 if NIGHTLY else 3
"""Of so many changes, `clean` is killed before one."""

DAY = 86_400


def listed(case: Case) -> set[str]:
    """The runs that `orch list` shows."""
    done = orch("list", "--json", "--store", case.store, cwd=case.place)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return {run["run"] for run in json.loads(done.stdout)}


def killed(case: Case, at: int) -> bool:
    """Kill a `clean` of the case's run before its `at`-th change. False if it makes no such change."""
    line = ["clean", "--yes", case.run, "--store", str(case.store)]
    found = case.call([*case.sabotage(at=at, audit=True), *line])
    assert found.returncode in (0, KILLED), found.stderr
    return found.returncode == KILLED


def check(case: Case) -> None:
    """Whatever the dead one has left: the run is there or is not, and the next one finishes."""
    assert listed(case) in ({"keep"}, {"keep", case.run})
    left = (case.store / "runs" / case.run).exists()
    again = orch("clean", "--yes", case.run, "--store", case.store, cwd=case.place)
    assert again.returncode == (0 if left else 2), again.stderr
    assert listed(case) == {"keep"}
    assert not (case.store / "runs" / case.run).exists()


def files(directory: Path) -> dict[str, bytes]:
    """All that is in a directory."""
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_killed_at_every_change(tmp_path: Path) -> None:
    """Of a run that has ended. What is left of it nobody sees, and `--garbage` removes it."""
    first, keep = Case(tmp_path, "r"), Case(tmp_path, "keep")
    with agent_ends(first.store):
        for case in (first, keep):
            case.check(case.call([*case.sabotage(), *case.begin()]))
    for at in range(1, MOST, STEP):
        case = Case(tmp_path / str(at), "r")
        shutil.copytree(first.store, case.store)
        kept = files(case.store / "runs/keep")
        last = not killed(case, at)
        check(case)
        assert files(case.store / "runs/keep") == kept
        check_garbage(case)
        if last:
            break
    assert 10 < at < MOST - STEP


def test_killed_while_it_keeps_what_calls_need(tmp_path: Path) -> None:
    """The call can be found at any time, and what is surplus is removed by the next one, or by `--garbage`."""
    first = Case(tmp_path, "r")
    store = FileStore(first.store)
    store.create()
    wanted = cached_run(store, first.run)
    write(store, first.run, [Warned(message="a second segment")])
    write(store, "keep", [created("keep"), Planned(count=0)])
    before = find(store, "keep", cache_in(tmp_path / "cache"), call("x"))
    assert before is not None
    for at in range(1, MOST, STEP):
        case = Case(tmp_path / str(at), "r")
        shutil.copytree(first.store, case.store)
        last = not killed(case, at)
        left = FileStore(case.store)
        runs = set(list_runs(left))
        assert runs in ({"keep"}, {"keep", case.run})
        assert find(left, "keep", cache_in(case.place / "cache"), call("x")) == before
        if runs == {"keep"} and at % 2:
            done = orch("clean", "--garbage", "--store", case.store, cwd=case.place)
        else:
            done = orch("clean", "--yes", case.run, "--store", case.store, cwd=case.place)
        assert done.returncode == 0, done.stderr
        assert sorted(left.list("runs/r")) == wanted
        assert find(left, "keep", cache_in(case.place / "cache"), call("x")) == before
        if last:
            break
    assert 10 < at < MOST - STEP


def check_garbage(case: Case) -> None:
    """Once it is no longer young, what a killed `clean` has left is deleted."""
    runs = case.store / "runs"
    for path in [each for top in runs.glob(".orch-tmp-*") for each in [top, *top.rglob("*")]]:
        os.utime(path, (time.time() - DAY,) * 2, follow_symlinks=False)
    done = orch("clean", "--garbage", "--store", case.store, cwd=case.place)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in runs.iterdir()] == ["keep"]


@pytest.mark.timeout(1800 if NIGHTLY else 120)
async def test_killed_while_it_ends_what_runs(tmp_path: Path) -> None:
    """The run's leader has died, its attempt lives. It is ended, by the first or the second `clean`."""
    flow = Path(__file__).parent / "flows" / "endless.py"
    keep = Case(tmp_path, "keep")
    with agent_ends(keep.store):
        keep.check(keep.call([*keep.sabotage(), *keep.begin()]))
        for at in range(1, 40) if NIGHTLY else sorted(random.Random(4).sample(range(1, 25), 3)):
            case = Case(tmp_path, f"r{at}")
            words = ["run", "--quiet", "--run-id", case.run, "--store", str(case.store), str(flow)]
            with running(*words, "--where", str(tmp_path), cwd=tmp_path) as leader:
                await until(case.log, lambda event: isinstance(event, Running) and event.job == 2)
                leader.kill()
                leader.wait()
            assert case.processes()
            killed(case, at)
            check(case)
            assert not case.processes()
        keep.check(orch(*keep.carry_on(), cwd=tmp_path))
