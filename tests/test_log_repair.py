"""`orch log repair`: the longest legal prefix is kept, nothing before the damage is lost, killing it harms nothing."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.command import log_directory, orch
from support.handmade import mixed, write_run
from support.logs import machine, said, segment, write_log
from support.mutations import ALONE, mutated

from orch.bus import events as ev
from orch.bus import files as bus_files
from orch.bus import repair
from orch.bus.errors import Fenced, LogDamaged, LogTrouble
from orch.bus.events import Event
from orch.bus.lock import RunLock
from orch.bus.log import Log
from orch.bus.reader import read
from orch.cli.main import main
from orch.logtools import audit
from orch.logtools.audit import Audit, Repair, mend

STAMP = "20300102-030405"


def changed(path: Path, at: int) -> None:
    """Another byte there."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def contents(directory: Path) -> dict[str, bytes]:
    """All files below."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def three_epochs(directory: Path) -> list[Event]:
    """A log of three segments, each with groups of 2, 1 and 3 events behind its first line."""

    async def write() -> None:
        for k in range(3):
            await write_log(directory, [2, 1, 3], closed=k != 1)

    anyio.run(write)
    return list(read(directory))


def lines(path: Path) -> list[int]:
    """Offsets of the lines."""
    data = path.read_bytes()
    return [0, *(k + 1 for k, byte in enumerate(data[:-1]) if byte == 10)]


def carried_on(directory: Path, kept: int, epochs: int) -> None:
    """A new leader goes on behind event `kept`, in an epoch that nobody had."""

    async def go_on() -> None:
        log = await Log.open(directory, run="r1", machine=machine())
        assert log.epoch > epochs
        await log.append([said("on")])
        assert [event.seq for event in read(directory)] == list(range(1, kept + 3))
        await log.close()

    anyio.run(go_on)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_damage_anywhere_costs_what_is_behind_it_and_no_more(tmp_path: Path, epoch: int) -> None:
    original = tmp_path / "original"
    events = three_epochs(original)
    groups = {event.seq: event.group for event in events}
    damaged = 0
    for number, at in enumerate(lines(segment(original, epoch))):
        directory = tmp_path / f"{number}" / "log"
        shutil.copytree(original, directory)
        changed(segment(directory, epoch), at + 30)
        before = contents(directory)
        seq = next(e.seq for e in events if e.epoch == epoch) + number
        if seq == 1:
            with pytest.raises(LogDamaged, match="nothing of this log could be kept"):
                mend(directory, STAMP)
            assert contents(directory.parent) == {f"log/{name}": data for name, data in before.items()}
            continue
        done = mend(directory, STAMP)
        damaged += 1
        assert done.lost
        assert (done.kept, done.lost.first, done.lost.unreadable) == (groups[seq] - 1, groups[seq], 1)
        assert done.lost.last == (events[-1].seq if seq < events[-1].seq else seq - 1)  # a broken line has no number
        assert list(read(directory)) == events[: done.kept]
        assert done.aside == directory.with_name(f"log.damaged-{STAMP}")
        assert contents(done.aside) == {path.name: before[path.name] for path in done.changed}
        after = contents(directory)
        assert mend(directory, STAMP).lost is None
        assert contents(directory) == after
        carried_on(directory, done.kept, 4)
    assert damaged >= 6


def test_an_illegal_transition_goes_with_all_that_follows(tmp_path: Path) -> None:
    directory = write_run(tmp_path, "r", [*mixed(), ev.Running(job=3, attempt=1), said("later")])
    before = list(read(directory))
    done = mend(directory, STAMP)
    assert (done.kept, done.lost and done.lost.last) == (len(mixed()) + 1, len(mixed()) + 3)
    assert list(read(directory)) == before[: done.kept]


@pytest.mark.parametrize("gone", [1, 2])
def test_a_missing_segment(tmp_path: Path, gone: int) -> None:
    directory = tmp_path / "log"
    events = three_epochs(directory)
    segment(directory, gone).unlink()
    if gone == 1:
        with pytest.raises(LogDamaged):
            mend(directory, STAMP)
        return
    done = mend(directory, STAMP)
    assert list(read(directory)) == events[: done.kept]
    assert events[done.kept].epoch == 2
    assert segment(directory, 2).read_bytes() == b""  # its name is a sign for the leader of epoch 1
    carried_on(directory, done.kept, 4)


def test_what_is_whole_torn_or_void_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    three_epochs(directory)
    with segment(directory, 2).open("ab") as file:
        file.write(b"void")
    segment(directory, 4).write_bytes(b'{"seq":')
    data = segment(directory, 3).read_bytes()
    segment(directory, 3).write_bytes(data[: lines(segment(directory, 3))[-1] - 5])
    before = contents(tmp_path)
    done = mend(directory, STAMP)
    assert (done.lost, done.changed, done.aside) == (None, [], None)
    assert contents(tmp_path) == before


async def test_a_leader_that_wakes_up_late_harms_nothing(tmp_path: Path) -> None:
    old = await write_log(tmp_path / "log", [1, 1, 1])
    changed(old._path, lines(old._path)[2] + 30)
    done = mend(old.directory, STAMP)
    with pytest.raises(Fenced):
        await old.append([said("late")])
    assert [event.seq for event in read(old.directory)] == [1, 2]
    assert Audit(old.directory).look().whole
    assert done.kept == 2


def test_what_happens_until_no_leader_goes_on_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = anyio.run(write_log, tmp_path / "log", [1, 1, 1])
    whole = log._path.read_bytes()
    changed(log._path, lines(log._path)[2] + 30)

    def meanwhile(act: Callable[[], object]) -> Repair:
        monkeypatch.setattr(audit, "fence", lambda directory: (act(), repair.fence(directory))[1])
        return mend(log.directory, STAMP)

    done = meanwhile(lambda: anyio.run(log.append, [said("late")]))
    assert done.lost
    assert done.aside
    assert (done.kept, done.lost.last) == (2, 5)
    assert b"late" in (done.aside / log._path.name).read_bytes()

    log._path.write_bytes(whole)
    changed(log._path, lines(log._path)[2] + 30)
    done = meanwhile(lambda: log._path.write_bytes(whole))
    assert (done.kept, done.lost, done.aside) == (4, None, None)
    assert log._path.read_bytes() == whole


def test_what_is_no_file_is_left_to_its_owner(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    three_epochs(directory)
    os.mkfifo(segment(directory, 4))
    with pytest.raises(LogTrouble, match=r"000004.events.jsonl: this is a named pipe, .* move it away"):
        mend(directory, STAMP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]
    assert len(list(directory.iterdir())) == 4
    os.mkfifo(segment(directory, 5))
    assert [problem.path.name[:6] for problem in Audit(directory).look().found.problems] == ["000004", "000005"]


def test_what_a_killed_repair_has_left_is_not_among_the_copies(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    three_epochs(directory)
    changed(segment(directory, 3), 30)
    (tmp_path / f"log.damaged-{STAMP}.part").mkdir()
    (tmp_path / f"log.damaged-{STAMP}.part" / "000001.events.jsonl").write_text("old")
    done = mend(directory, STAMP)
    assert done.aside
    assert list(contents(done.aside)) == ["000003.events.jsonl"]


class Killed(BaseException):
    """What the process would have done next, it does not."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Be killed before the given step: a call that changes something on the disk."""
    left = [-1]

    def counted(function: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*args, **more)

        return call

    def arm(step: int) -> None:
        left[0] = step

    for name in ("rename", "replace", "write", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(bus_files.RealFiles, "create", counted(bus_files.RealFiles.create))
    yield arm
    left[0] = -1


def test_killed_at_any_step_it_is_finished_by_the_next_repair(tmp_path: Path, kill_at: Callable[[int], None]) -> None:
    original = tmp_path / "original"
    events = three_epochs(original)
    for where in ((1, 3), (2, 0), (3, 4)):
        for step in itertools.count(1):
            directory = tmp_path / f"{where}{step}" / "log"
            shutil.copytree(original, directory)
            path = segment(directory, where[0])
            changed(path, lines(path)[where[1]] + 30)
            before = contents(directory)
            expected = mend_copy(directory)
            kill_at(step)
            try:
                mend(directory, STAMP)
                break
            except Killed:
                pass
            finally:
                kill_at(-1)
            left = list(read(directory, strict=False))
            assert left == events[: len(left)]
            done = mend(directory, "again")
            assert list(read(directory)) == events[: expected.kept], (where, step)
            assert done.kept == expected.kept
            kept = {
                name: data for aside in directory.parent.glob("log.damaged-*") for name, data in contents(aside).items()
            }
            assert all(before[name] in (kept.get(name), contents(directory).get(name)) for name in before), (
                where,
                step,
            )
        assert step > 10


def mend_copy(directory: Path) -> Repair:
    """What a repair that is not killed would do."""
    copy = directory.with_name("copy") / "log"
    shutil.copytree(directory, copy)
    done = mend(copy, STAMP)
    shutil.rmtree(copy.parent)
    return done


@pytest.mark.parametrize("seed", range(4))
def test_whatever_went_wrong_what_was_there_before_is_kept(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    original = tmp_path / "original"
    events = three_epochs(original)
    repaired = 0
    for number in range(60):
        directory = tmp_path / f"{number}" / "log"
        shutil.copytree(original, directory)
        path = segment(directory, rng.choice((1, 2, 3)))
        path.write_bytes(mutated(rng, path.read_bytes(), b"", ALONE))
        audit = Audit(directory).look()
        before = list(read(directory, strict=False)) if audit.whole else events[: audit.end.seq if audit.end else 0]
        try:
            done = mend(directory, STAMP)
        except LogDamaged:
            assert audit.end is None
            continue
        repaired += done.lost is not None
        assert list(read(directory)) == before == events[: done.kept], number
        assert Audit(directory).look().whole
        assert mend(directory, STAMP).lost is None
        carried_on(directory, done.kept, 3)
    assert repaired > 10


# The command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_lost_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segment(write_run(tmp_path, "r", mixed()), 1)
    added = lines(path)[10]  # the first attempt of job 1
    changed(path, added + 30)
    before = path.read_bytes()
    ask = ["log", "repair", "--store", str(tmp_path)]
    assert main([*ask, "--dry-run"]) == 0
    would = capsys.readouterr().out
    assert "10 events would be kept" in would
    assert path.read_bytes() == before
    assert not list(path.parent.parent.glob("log.damaged*"))
    assert main(ask) == 0
    out = capsys.readouterr().out
    last = len(mixed()) + 1
    assert f"run r: 10 events are kept; lost: events 11 to {last}, and 1 line that cannot be read" in out
    again = f"orch replay r --store {tmp_path} --restart"
    assert f"lost results: at least 1 job (1); they run again when the run is carried on with {again}" in out
    assert "000001.events.jsonl was shortened" in out
    aside = Path(out.rsplit("what it was is in ", 1)[1].strip())
    assert (aside / path.name).read_bytes() == before
    assert main([*ask, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["whole"], found["kept"], found["lost"]) == (True, 10, None)
    assert main(["log", "verify", "--store", str(tmp_path)]) == 0


def test_a_run_that_is_led_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path, "r", mixed())
    changed(segment(directory, 1), 900)
    before = contents(directory)
    lock = RunLock(directory.parent / "lock")
    lock.acquire()
    try:
        assert main(["log", "repair", "--store", str(tmp_path)]) == 3
    finally:
        lock.release()
    assert "live leader" in capsys.readouterr().err
    assert contents(directory) == before


def test_a_run_without_its_first_jobs_is_said_to_be_of_no_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = segment(write_run(tmp_path, "r", mixed()), 1)
    changed(path, lines(path)[4] + 30)
    assert main(["status", "--store", str(tmp_path)]) == 4
    assert "orch log repair" in capsys.readouterr().err
    assert main(["log", "repair", "--store", str(tmp_path)]) == 0
    assert "begin it anew with orch run" in capsys.readouterr().out


WORKFLOW = """
import orch

@orch.job
def large(n):
    return bytes([n]) * 100_000

@orch.job
def total(parts):
    return sum(map(len, parts))

@orch.workflow
def main():
    return total([large(n) for n in range(3)])
"""


def test_a_run_that_was_repaired_is_carried_on_to_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(WORKFLOW)
    store = tmp_path / ".orch"
    first = orch("run", "--run-id", "r1", "wf.py", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "300000\n"), first.stderr
    path = segment(log_directory(store, "r1"), 1)
    changed(path, path.read_bytes().index(b'"type":"succeeded"'))
    assert orch("replay", "--restart", cwd=tmp_path).returncode == 4
    assert orch("log", "repair", cwd=tmp_path).returncode == 0
    again = orch("replay", "--restart", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "300000\n"), again.stderr
    checked = orch("log", "verify", "--files", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
