"""`orch log verify`: all that is wrong is said, with its place; what is void or torn is named, and is no damage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anyio
import msgspec
import pytest
from support.disk import Disk
from support.handmade import created, mixed, started, write_run
from support.logs import LOG, machine, open_log, said, segment, write_log

from orch.bus import events as ev
from orch.bus.codec import CODEC, finish
from orch.bus.errors import Fenced, LogDamaged
from orch.bus.events import Opened
from orch.bus.log import Log
from orch.bus.reader import read
from orch.bus.verify import Part, Verification
from orch.cli.main import main
from orch.logtools.audit import Audit


def looked(disk: Disk) -> tuple[Verification, list[int]]:
    """A verification at its end, and the numbers of the events before the first problem."""
    found = Verification(LOG, disk)
    seqs = [e.seq for good in found.run() if not found.problems for e in good.events]
    return found, seqs


def places(found: Verification) -> list[tuple[str, int, int, int]]:
    """File, offset, line and number of each problem."""
    return [(one.path.name, one.offset, one.line, one.seq) for one in found.problems]


def changed(data: bytes, at: int) -> bytes:
    """With another byte there."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def test_all_that_is_wrong_is_listed_with_its_place() -> None:
    disk = Disk()
    await write_log(LOG, [1] * 8, files=disk, closed=True)
    await write_log(LOG, [1] * 8, files=disk, closed=True)
    first, second = segment(LOG, 1), segment(LOG, 2)
    lines = disk.get(first).splitlines(keepends=True)
    at = [sum(map(len, lines[:k])) for k in range(len(lines))]
    disk.put(first, changed(changed(disk.get(first), at[3] + 40), at[6] + 5))
    broken = disk.get(second).splitlines(keepends=True)
    disk.put(second, b"".join(broken[:4] + broken[5:]))
    found, seqs = looked(disk)
    assert seqs == [1, 2, 3]
    assert places(found) == [
        (first.name, at[3], 4, 4),
        (first.name, at[6], 7, 7),
        (second.name, sum(map(len, broken[:4])), 5, 15),
    ]
    assert "this is event 16" in found.problems[-1].why


async def test_a_list_of_problems_has_an_end() -> None:
    disk = Disk()
    await write_log(LOG, [1] * 300, files=disk, closed=True)
    lines = disk.get(segment(LOG, 1)).splitlines(keepends=True)
    disk.put(segment(LOG, 1), b"".join(line.replace(b"warned", b"Warned") for line in lines))
    found, _ = looked(disk)
    assert (len(found.problems), found.more) == (100, 200)


async def test_void_torn_and_claimed_is_no_damage() -> None:
    disk = Disk()
    old = await write_log(LOG, [2], files=disk)
    end = len(disk.get(segment(LOG, 1)))
    await write_log(LOG, [2], files=disk)
    with pytest.raises(Fenced):
        await old.append([said("too late")])
    last = disk.get(segment(LOG, 2))
    disk.put(segment(LOG, 2), last + b'{"seq":')
    disk.put(segment(LOG, 3), b'{"seq"')
    found, seqs = looked(disk)
    assert not found.problems
    assert seqs == [1, 2, 3, 4, 5, 6]
    first = Part(segment(LOG, 1), 1, first=1, last=3, length=end, void=len(disk.get(segment(LOG, 1))) - end)
    second = Part(segment(LOG, 2), 2, first=4, last=6, length=len(last), torn=7)
    assert found.parts == {1: first, 2: second, 3: Part(segment(LOG, 3), 3, "claim", void=6)}


async def test_a_broken_chain_is_said_and_what_is_older_still_looked_at() -> None:
    disk = Disk()
    for _ in range(3):
        await write_log(LOG, [2], files=disk, closed=True)
    one, two = disk.get(segment(LOG, 1)), disk.get(segment(LOG, 2))
    del disk.files[segment(LOG, 2)]
    disk.put(segment(LOG, 1), changed(one, 300))
    found, seqs = looked(disk)
    assert seqs == [1]
    assert [one.path.name for one in found.problems] == [segment(LOG, 1).name, segment(LOG, 2).name]
    assert "the file is missing" in found.problems[1].why
    disk.put(segment(LOG, 1), one)
    disk.put(segment(LOG, 2), changed(two, 3))
    found, seqs = looked(disk)
    assert seqs == [1, 2, 3, 4]
    assert places(found) == [(segment(LOG, 2).name, 0, 1, 0)]


async def test_segments_of_two_runs_are_no_log(tmp_path: Path) -> None:
    for name in ("r1", "r2"):
        log = await Log.open(tmp_path / name, run="same", machine=machine())
        await log.append([said("x")])
        await log.close("left")
        log = await Log.open(tmp_path / name, run="same", machine=machine())
        await log.append([said("y")])
    one, two = (segment(tmp_path / name, 2) for name in ("r1", "r2"))
    text = two.read_bytes()
    first, rest = text.split(b"\n", 1)
    event = CODEC.decode(first)
    assert isinstance(event, Opened)
    bodies = CODEC.encode([msgspec.structs.replace(event, run="b", seq=0)])
    (line,) = CODEC.open_lines(bodies, event.seq, CODEC.envelope(event.time, 2, event.seq))
    one.write_bytes(finish(line, end=True) + rest)
    with pytest.raises(LogDamaged, match=r"000002.*byte 0: this is a segment of the run b, in the log of the run same"):
        list(read(one.parent))
    found = Verification(one.parent)
    assert [good.end.seq for good in found.run()] == [3]
    assert ["run b" in problem.why for problem in found.problems] == [True]
    with pytest.raises(LogDamaged, match="segment of the run same, in the log of the run other"):
        await Log.open(tmp_path / "r2", run="other", machine=machine())
    assert len(list((tmp_path / "r2").iterdir())) == 2


async def test_lines_whose_crc_is_right_must_belong_where_they_stand() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    await log.append([said("a"), said("b")])
    start = disk.get(segment(LOG, 1))
    middles = {
        "epoch": CODEC.envelope("t", 9, 4),
        "group": CODEC.envelope("t", 1, 3),
    }
    for name, middle in middles.items():
        disk.put(segment(LOG, 1), start + finish(*CODEC.open_lines(CODEC.encode([said("c")]), 4, middle), end=True))
        found, seqs = looked(disk)
        assert seqs == [1, 2, 3], name
        assert places(found) == [(segment(LOG, 1).name, len(start), 4, 4)]
    disk.put(segment(LOG, 1), start + finish(b'{"seq":4,', end=True))
    found, seqs = looked(disk)
    assert seqs == [1, 2, 3]
    assert "no event" in found.problems[0].why


async def test_another_leader_may_take_over_meanwhile() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    for _ in range(50):
        await log.append([said("x" * 1000) for _ in range(20)])
    found = Verification(LOG, disk)
    events: list[int] = []
    for good in found.run():
        if not events:
            await write_log(LOG, [2], files=disk)
            with pytest.raises(Fenced):
                await log.append([said("too late")])
        events += [event.seq for event in good.events]
    assert events == list(range(1, 1005))
    assert not found.problems
    assert sorted(found.parts) == [1, 2]
    assert found.parts[1].void


def test_an_illegal_transition_is_named_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path, "r", [*mixed(), ev.Running(job=3, attempt=1), said("later")])
    data = segment(directory, 1).read_bytes()
    audit = Audit(directory).look()
    assert audit.end
    at = len(mixed()) + 2
    assert [(one.seq, one.line, one.offset) for one in audit.found.problems] == [(at, at, audit.end.offset)]
    assert data[audit.end.offset :].startswith(b'{"seq":%d,' % at)
    assert main(["log", "verify", "--store", str(tmp_path)]) == 4
    out = capsys.readouterr().out
    assert f"byte {audit.end.offset}, line {at}, event {at}: event {at} (running): attempt 1 of job merge [3]" in out
    assert f"whole and legal up to event {at - 1}" in out
    assert f"orch log repair r --store {tmp_path} --dry-run" in out


def test_one_line_for_a_run_that_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path, "r", mixed(), close="left")
    assert main(["log", "verify", "--store", str(tmp_path)]) == 0
    events = len(mixed()) + 2
    assert capsys.readouterr().out == f"run r: {events} events in 1 segment, all whole\n"
    for copied in (directory, directory.parent):
        assert main(["log", "verify", "--store", str(copied)]) == 0
        assert capsys.readouterr().out == f"run r: {events} events in 1 segment, all whole\n"


def test_all_runs_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "one", mixed("one"))
    path = segment(write_run(tmp_path, "two", mixed("two")), 1)
    path.write_bytes(changed(path.read_bytes(), 900))
    assert main(["log", "verify", "--all", "--json", "--store", str(tmp_path)]) == 4
    found = {one["run"]: one for one in json.loads(capsys.readouterr().out)}
    assert (found["one"]["whole"], found["two"]["whole"]) == (True, False)
    assert found["two"]["problems"][0]["path"] == str(path)
    assert main(["log", "verify", "one", "--json", "--store", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == found["one"]
    assert main(["log", "verify", "one", "--all", "--store", str(tmp_path)]) == 2
    assert main(["log", "frobnicate"]) == 2


def test_files_that_events_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stored(name: str, data: bytes = b"x" * 10) -> tuple[str, int, str]:
        path = tmp_path / "runs" / "r" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"runs/r/{name}", len(data), f"sha256:{hashlib.sha256(data).hexdigest()}"

    file, size, digest = stored("values/1")
    output, *_ = stored("logs/1")
    done = ev.Succeeded(
        job=1,
        attempt=1,
        value=ev.Blob(file=file, size=size, digest=digest),
        files=[ev.StoredFile(*stored("files/1"))],
        stdout=ev.Blob(file=output, size=10),
    )
    events = [created("r"), ev.Added(job=1, kind="k"), ev.Planned(count=1), *started(1), done]
    write_run(tmp_path, "r", events)
    ask = ["log", "verify", "--files", "--store", str(tmp_path)]
    assert main(ask) == 0
    assert "3 files, none is missing" in capsys.readouterr().out
    (tmp_path / output).unlink()
    assert main(ask) == 0  # captured output is never made durable
    assert f"{tmp_path / output}: event 8 names it" in capsys.readouterr().out
    (tmp_path / file).write_bytes(b"y" * 10)
    (tmp_path / "runs/r/files/1").write_bytes(b"y")
    assert main(ask) == 4
    out = capsys.readouterr().out
    assert "its digest differs" in out
    assert "has 1 bytes instead of 10" in out
    (tmp_path / "runs/r").rename(tmp_path / "copy")  # of the run alone
    assert main([*ask[:-1], str(tmp_path / "copy")]) == 4
    assert "its digest differs" in capsys.readouterr().out
    (tmp_path / "copy/log").rename(tmp_path / "segments")
    assert main([*ask[:-1], str(tmp_path / "segments")]) == 2
    assert "its log alone" in capsys.readouterr().err


def test_a_log_of_a_newer_orch_is_not_called_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path, "r", mixed())
    data = segment(directory, 1).read_bytes()
    seq = len(mixed()) + 2
    line = finish(b'{"seq":%d,"time":"t","epoch":1,"group":%d,"type":"dreamt"' % (seq, seq), end=True)
    segment(directory, 1).write_bytes(data + line)
    assert main(["log", "verify", "--store", str(tmp_path)]) == 4
    assert main(["log", "repair", "--store", str(tmp_path)]) == 4
    assert "repair the log with the version that wrote it" in capsys.readouterr().err
    assert segment(directory, 1).read_bytes() == data + line


def test_a_live_log_and_a_log_that_nobody_may_write_to(tmp_path: Path) -> None:
    async def live() -> None:
        directory = tmp_path / "log"
        log = await Log.open(directory, run="r")
        for k in range(3):
            await log.append([said(str(k))])
            audit = Audit(directory).look()
            assert audit.end
            assert (audit.end.seq, audit.found.problems) == (log.last_seq, [])
        directory.chmod(0o500)
        segment(directory, 1).chmod(0o400)
        assert Audit(directory).look().whole
        directory.chmod(0o700)
        await log.close()

    anyio.run(live)
