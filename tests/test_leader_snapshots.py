"""`snapshot` beside a log: with it, a run is carried on as if the whole log had been folded; or it does not count."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support.folded import added, run_through

from orch import history
from orch.bus import events as ev
from orch.bus.log import Log
from orch.bus.machine import HERE
from orch.bus.places import Point
from orch.bus.segment import segment_name
from orch.leader import snapshots
from orch.leader.snapshots import Snapshots, folded
from orch.state import table
from orch.state.fold import fold
from orch.state.image import image
from orch.state.model import State
from orch.testing.states import difference
from orch.testing.states import snapshot as picture

JOBS = 60


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LONG", 20)
    monkeypatch.setattr(table, "HOT", 3)


async def lead(directory: Path, upto: int, durability: Any = "always") -> None:
    """Lead a run from its beginning until so many of its jobs are done, and vanish."""
    log, state = await Log.open(directory, run="r", durability=durability), State()
    keeper = Snapshots(log, state, "r")
    fold([log.opened], state)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.keep, HERE.offload)
        first = [ev.Created(run="r"), *(added(job) for job in range(1, JOBS + 1)), ev.Planned(count=JOBS)]
        for events in [first, *(run_through(job) for job in range(1, upto + 1))]:
            fold(await log.append(events), state)
            keeper.committed()
            await anyio.wait_all_tasks_blocked()
            while keeper.busy:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


def state_of(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], int]:
    """What a run is carried on from, and how many events of it were not folded again."""
    spared = [0]
    real = history.fold_quickly

    def spy(log: Path, at: int | None = None, *, state: State | None = None) -> State:
        spared.append(state.seq if state is not None else 0)
        return real(log, at, state=state)

    monkeypatch.setattr(snapshots, "fold_quickly", spy)
    return picture(folded(directory, "r")), spared[-1]


@pytest.mark.parametrize("durability", ["always", "relaxed"])
def test_a_run_is_carried_on_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    anyio.run(lead, tmp_path / "log", 40, durability)
    found, spared = state_of(tmp_path / "log", monkeypatch)
    assert 100 < spared < 183
    assert difference(found, picture(history.fold_quickly(tmp_path / "log"))) == []


def test_a_short_run_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LONG", 1000)
    anyio.run(lead, tmp_path / "log", 40)
    assert not (tmp_path / "snapshot").exists()
    assert state_of(tmp_path / "log", monkeypatch)[1] == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def say(**said: Any) -> Callable[[Path], None]:
    """Change what its head says."""

    def change(path: Path) -> None:
        first, _, rest = path.read_bytes().partition(b"\n")
        head = msgspec.json.decode(first)
        point = {**head["point"], **said.pop("point", {})}
        path.write_bytes(msgspec.json.encode({**head, "point": point, **said}) + b"\n" + rest)

    return change


def other_state(path: Path) -> None:
    """A snapshot that is whole, and of another story."""
    log = path.parent / "log"
    point = snapshots.read(log, "r")
    assert point is not None
    state = State()
    fold([ev.Opened(run="r", host="h", pid=1, seq=1)], state)
    state.seq = point[1].seq
    snapshots.write(log, "r", point[1], image(state))


WRONG = {
    "cut": cut,
    "empty": empty,
    "a bit": flip,
    "longer": lengthen,
    "a directory": make_directory,
    "of other code": say(code="0" * 64),
    "of another run": say(run="other"),
    "of another place": say(point={"seq": 7}),
    "of another line": say(point={"crc": "00000000"}),
    "of another length": say(point={"length": 700}),
    "of another segment": say(point={"segment": segment_name(2)}),
    "no segment": say(point={"segment": "../../etc/passwd"}),
    "of another story": other_state,
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_one_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    anyio.run(lead, tmp_path / "log", 40)
    WRONG[what](tmp_path / "snapshot")
    found, spared = state_of(tmp_path / "log", monkeypatch)
    assert spared == 0
    assert difference(found, picture(history.fold_quickly(tmp_path / "log"))) == []


def test_one_of_a_log_that_was_cut_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anyio.run(lead, tmp_path / "log", 40)
    segment = tmp_path / "log" / segment_name(1)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:100]))
    found, spared = state_of(tmp_path / "log", monkeypatch)
    assert spared == 0
    assert difference(found, picture(history.fold_quickly(tmp_path / "log"))) == []


def test_where_none_can_be_written_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "snapshot.new").mkdir()
    anyio.run(lead, tmp_path / "log", 40)
    assert state_of(tmp_path / "log", monkeypatch)[1] == 0


def test_code_that_was_replaced_while_it_ran_makes_none_and_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade: what this process would write is not what the files, and so the next process, would read."""
    anyio.run(lead, tmp_path / "log", 40)
    assert state_of(tmp_path / "log", monkeypatch)[1] > 0
    monkeypatch.setattr(snapshots, "_LOADED", snapshots._LOADED[:-1])
    snapshots.code.cache_clear()
    try:
        assert state_of(tmp_path / "log", monkeypatch)[1] == 0
        (tmp_path / "snapshot").unlink()
        anyio.run(lead, tmp_path / "second" / "log", 40)
        assert not (tmp_path / "second" / "snapshot").exists()
    finally:
        snapshots.code.cache_clear()


def test_whatever_stands_in_its_rows_the_log_can_be_folded(tmp_path: Path) -> None:
    """With a sum that is right: a mistake of ours must not keep a run from being carried on."""
    anyio.run(lead, tmp_path / "log", 40)
    path = tmp_path / "snapshot"
    first, _, rest = path.read_bytes().partition(b"\n")
    head = msgspec.json.decode(first)
    for place in range(0, len(rest), max(1, len(rest) // 16)):
        body = rest[:place] + bytes([rest[place] ^ 0x55]) + rest[place + 1 :]
        path.write_bytes(msgspec.json.encode({**head, "crc": zlib.crc32(body)}) + b"\n" + body)
        snapshots.folded(tmp_path / "log", "r")


def test_what_could_not_be_written_whole_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    point = Point(segment_name(1), 1, 1, "00000000")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        snapshots.write(tmp_path / "log", "r", point, [b"x" * 1000])
    assert list(tmp_path.iterdir()) == []
