"""Epochs: whoever claims last leads, and nothing that an older leader still writes counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.disk import Disk
from support.logs import LOG, open_log, points, said, segment, texts, write_log

from orch.bus.errors import Fenced, OrchError
from orch.bus.log import Log
from orch.bus.places import Point
from orch.bus.reader import read

TRUST: dict[str, Callable[[list[Point]], Point | None]] = {
    "all is read": lambda _: None,
    "the first group is trusted": lambda found: found[0],
    "all is trusted": lambda found: found[-1],
}
"""Which point of those that a log has a new leader trusts."""


@pytest.fixture(params=TRUST)
def trust(request: pytest.FixtureRequest) -> Callable[[Disk], Point | None]:
    """Chooses a point of the log on a disk."""
    return lambda disk: TRUST[request.param](points(LOG, disk))


Trust = Callable[[Disk], Point | None]


def all_texts(disk: Disk) -> list[str]:
    """What a reader sees."""
    events = list(read(LOG, files=disk))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return texts(events)


async def test_a_stale_leader_is_fenced_and_what_it_writes_is_void() -> None:
    disk = Disk()
    old = await write_log(LOG, [1], files=disk)
    new = await open_log(LOG, disk)
    with pytest.raises(Fenced, match=r"taken over \(epoch 2\)") as first:
        await old.append([said("void")])
    assert first.value.exit_code == 3
    with pytest.raises(Fenced) as again:
        old.stage([said("never")])
    assert again.value is first.value
    await new.append([said("counts")])
    assert b"void" in disk.get(segment(LOG, 1))
    assert all_texts(disk) == ["Opened", "e2", "Opened", "counts"]
    await old.close("error")
    assert texts(list((await open_log(LOG, disk)).history())) == ["Opened", "e2", "Opened", "counts"]


async def test_a_stale_leader_that_goes_on_for_long_changes_nothing(tmp_path: Path) -> None:
    old = await write_log(tmp_path, [1])
    new = await write_log(tmp_path, [2], text="new")
    seen = list(read(tmp_path))
    with (tmp_path / "000001.events.jsonl").open("ab") as file:
        for line in (b"rubbish\n", b'{"seq":3,', b"\0" * 5000, b"x" * 300_000, b"\n"):
            file.write(line)
            file.flush()
            assert list(read(tmp_path)) == seen
    assert [new.fetch(event.seq) for event in seen] == seen
    third = await open_log(tmp_path)
    assert list(third.history()) == seen
    for log in (old, new):
        with pytest.raises(Fenced):
            await log.close("error")
    await third.close("stopped")


async def test_a_take_over_while_somebody_reads() -> None:
    """A reader never sees what is void, even if it had found the segments before the take-over."""
    stop = 1
    while True:
        disk = Disk()
        old = await write_log(LOG, [1], files=disk)
        count, taken = 0, False

        def before(_what: str, _path: Path, disk: Disk = disk, old: Log = old, stop: int = stop) -> None:
            nonlocal count, taken
            count += 1
            if count == stop:
                disk.before = lambda _what, _path: None
                anyio.run(open_log, LOG, disk)
                old.stage([said("void")])
                with pytest.raises(Fenced):
                    old._write(old._take())
                taken = True

        disk.before = before
        seen = await anyio.to_thread.run_sync(all_texts, disk)
        assert seen in (["Opened", "e2"], ["Opened", "e2", "Opened"])
        if not taken:
            break
        stop += 1
    assert stop > 5


async def test_after_names_the_end_of_the_predecessor() -> None:
    disk = Disk()
    await write_log(LOG, [2], files=disk)
    data = disk.get(segment(LOG, 1))
    log = await open_log(LOG, disk)
    after = log.opened.after
    assert after is not None
    assert (after.segment, after.seq, after.length) == ("000001.events.jsonl", 3, len(data))
    assert data.endswith(b'"crc":"%b"}\n' % after.crc.encode())


@pytest.mark.parametrize("left", [b"", b'{"seq":4,"time":"20', b"\0" * 300])
async def test_a_claim_whose_maker_died_is_void(left: bytes) -> None:
    disk = Disk()
    old = await write_log(LOG, [1], files=disk)
    disk.put(segment(LOG, 2), left)
    assert all_texts(disk) == ["Opened", "e2"]
    with pytest.raises(Fenced):
        await old.append([said("late")])
    log = await open_log(LOG, disk)
    assert log.epoch == 3
    assert all_texts(disk) == ["Opened", "e2", "late", "Opened"]  # written before anybody had looked, so it counts
    await log.append([said("more")])
    assert [e.epoch for e in read(LOG, files=disk)] == [1, 1, 1, 3, 3]


async def test_the_first_claim_of_all_may_be_void() -> None:
    disk = Disk()
    disk.put(segment(LOG, 1), b"")
    assert all_texts(disk) == []
    log = await open_log(LOG, disk)
    assert (log.epoch, log.opened.seq, log.opened.after) == (2, 1, None)
    assert all_texts(disk) == ["Opened"]


async def test_what_we_build_upon_is_synced_first() -> None:
    disk = Disk()
    relaxed = await open_log(LOG, disk, "relaxed")
    await relaxed.append([said("a")])
    await open_log(LOG, disk)
    disk.power_cut()
    assert all_texts(disk) == ["Opened", "a", "Opened"]


class Interrupted(Exception):
    """The process dies here."""


async def open_until(disk: Disk, stop: int, then: Callable[[], None], trusted: Point | None) -> Log | None:
    """Open a log; at the operation numbered `stop` call `then`, which may raise Interrupted."""
    count = 0

    def before(_what: str, _path: Path) -> None:
        nonlocal count
        count += 1
        if count == stop:
            disk.before = lambda _what, _path: None
            then()

    disk.before = before
    try:
        return await open_log(LOG, disk, trusted=trusted)
    except Interrupted:
        return None
    finally:
        disk.before = lambda _what, _path: None


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
async def test_a_take_over_that_dies_at_any_step_leaves_a_good_log(power: bool, trust: Trust) -> None:
    def die() -> None:
        raise Interrupted

    stop = 1
    while True:
        disk = Disk()
        await write_log(LOG, [1, 2], files=disk)
        trusted = trust(disk)
        died = await open_until(disk, stop, die, trusted) is None
        if power:
            disk.power_cut()
        log = await open_log(LOG, disk, trusted=trusted)
        assert log.trusted == trusted
        seen = all_texts(disk)
        assert seen[:4] == ["Opened", "e2", "e3", "e4"]
        assert set(seen[4:]) == {"Opened"}
        await log.append([said("more")])
        assert all_texts(disk)[-1] == "more"
        if not died:
            break
        stop += 1
    assert stop > 15


async def test_an_old_leader_that_appends_at_any_step_of_a_take_over(trust: Trust) -> None:
    """What it was told is durable is in the log; what came too late is not, and it is told so."""
    stop = 1
    while True:
        disk = Disk()
        old = await write_log(LOG, [1], files=disk)
        told: list[str] = []

        def append(old: Log = old, told: list[str] = told) -> None:
            try:
                old.stage([said("during")])
                old._write(old._take())
            except Fenced:
                told.append("fenced")
            else:
                told.append("durable")

        new = await open_until(disk, stop, append, trust(disk))
        assert new is not None
        if not told:
            break
        seen = all_texts(disk)
        assert "during" in seen or told == ["fenced"]
        assert seen[0:2] == ["Opened", "e2"]
        with pytest.raises(Fenced):
            await old.append([said("after")])
        assert "after" not in all_texts(disk)
        assert texts([*new.history(), new.opened]) == seen
        stop += 1


async def test_two_take_over_at_once_at_any_step(trust: Trust) -> None:
    stop = 1
    while True:
        disk = Disk()
        await write_log(LOG, [1], files=disk)
        others: list[Log] = []

        def also(disk: Disk = disk, others: list[Log] = others) -> None:
            others.append(anyio.run(open_log, LOG, disk, "always", trust(disk)))

        try:
            one = await open_until(disk, stop, also, trust(disk))
        except Fenced:
            one = None
        if not others:
            break
        two = others[0]
        results = [await tried(log) for log in (one, two) if log is not None]
        assert results.count("appended") == 1, stop
        seen = all_texts(disk)
        assert seen[:2] == ["Opened", "e2"]
        assert seen[-1] == "mine"
        assert seen.count("mine") == 1
        stop += 1


async def tried(log: Log) -> str:
    """Append, and say how it went."""
    try:
        await log.append([said("mine")])
    except Fenced:
        return "fenced"
    return "appended"


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "append", "append", "close", "kill", "power"]), st.integers(0, 3)), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_what_was_acknowledged_is_never_lost_and_never_changes(steps: list[Step]) -> None:
    """Any leaders, appending, closing, dying in any order on one disk: the acknowledged is there, once, in order."""
    anyio.run(_play, steps)


async def _play(steps: list[Step]) -> None:
    disk = Disk()
    leaders: list[Log] = []
    acknowledged: list[tuple[int, str]] = []
    known: list[Point | None] = [None]
    for number, (what, which) in enumerate(steps):
        log = leaders[which % len(leaders)] if leaders else None
        if what == "open":
            leaders.append(await open_log(LOG, disk, trusted=known[-which % len(known)]))
        elif what == "kill" and log is not None:
            leaders.remove(log)
        elif what == "power":
            leaders.clear()
            disk.power_cut()
        elif what == "append" and log is not None:
            try:
                events = await log.append([said(f"{number}.{k}") for k in range(which + 1)])
            except OrchError:
                leaders.remove(log)
            else:
                acknowledged += zip([e.seq for e in events], texts(events), strict=True)
                known.append(await log.point())
        elif what == "close" and log is not None:
            leaders.remove(log)
            await _closed(log)
        found = {event.seq: text for event in read(LOG, files=disk) for text in texts([event])}
        assert list(found) == list(range(1, len(found) + 1))
        assert all(found[seq] == text for seq, text in acknowledged)


async def _closed(log: Log) -> None:
    try:
        await log.close("ended")
    except Fenced:
        return
