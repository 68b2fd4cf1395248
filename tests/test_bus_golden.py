"""The format of every event type is guarded by a file: it may not change, and what is there must stay readable.

A new type, or version, needs a new file: `ORCH_GOLDEN=write pytest tests/test_bus_golden.py` writes those that are
missing (and never changes one).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support.disk import Disk
from support.logs import LOG, open_log, segment, without_sums, write_log

from orch.bus import events as ev
from orch.bus.codec import CODEC, Unknown, finish, type_name
from orch.bus.reader import read

GOLDEN = Path(__file__).parent / "golden" / "events"
SEGMENTS = GOLDEN.parent / "segments"
TIME = "2030-01-02T03:04:05.678901Z"

BLOB = ev.Blob(data=b"\x80\x05K\x07.", size=5)
FILE_BLOB = ev.Blob(file="runs/r1/values/000/7.1.value", size=70000, digest="sha256:0f")
CUT = ev.Blob(data=b"head tail", size=9, cut=1000)
USAGE = ev.Usage(wall=1.5, user=1.25, system=0.25, memory=65536, disk=4096)
FILES = [
    ev.StoredFile(path="runs/r1/files/000/7.1/0/a.bam", size=3, digest="sha256:ab"),
    ev.StoredFile(path="runs/r1/files/000/7.1/1/out", size=9, directory=True),
]
ENVELOPE = {"seq", "time", "epoch", "group"}
END = ev.Predecessor(segment="000001.events.jsonl", seq=41, length=9876, crc="0badcafe")

EXAMPLES: list[ev.Event] = [
    ev.Opened(run="r1", host="node1", pid=123),
    ev.Opened(
        run="r1",
        host="node1",
        pid=123,
        boot="b-1",
        user="ada",
        version="0.1.0",
        durability="relaxed",
        after=END,
    ),
    ev.Created(run="r1"),
    ev.Created(
        run="r1",
        name="my run",
        tags={"project": "x"},
        source="flow.py",
        function="main",
        options={"n": "20"},
        bundle="sha256:12",
        adapter="slurm",
        cwd="/home/ada",
        settings={"retries": 2, "out": None, "quota": 1.5, "env": ["A"]},
    ),
    ev.Recoded(bundle="sha256:34", previous="sha256:12"),
    ev.Planned(count=0),
    ev.Planned(count=3, value=BLOB, refs=[1, 3], alias=True, files=FILES),
    ev.Requested(what="stop"),
    ev.Requested(what="cancel", job=7, by="ada@node1"),
    ev.Warned(message="line one\nline two: ü \u2028"),
    ev.Warned(message="x", job=7),
    ev.Restarted(),
    ev.Restarted(by="ada@node1"),
    ev.Ended(outcome="succeeded"),
    ev.Closed(reason="ended"),
    ev.Added(job=7, kind="fib"),
    ev.Added(
        job=7,
        kind="fib",
        name="fib(3)",
        by=2,
        attempt=1,
        needs=[5, 6],
        form="pool",
        body=FILE_BLOB,
        resources=ev.Resources(cores=0.5, memory=268435456, disk=1073741824, walltime=60.0),
        retries=2,
    ),
    ev.Submitting(job=7, attempt=1, key="r1.7.1"),
    ev.Submitting(job=7, attempt=1, key="r1.7.1", adapter="local"),
    ev.Submitted(job=7, attempt=1),
    ev.Submitted(job=7, attempt=1, id="4711"),
    ev.Running(job=7, attempt=1),
    ev.Running(job=7, attempt=1, host="node1", pid=99, since=TIME),
    ev.Annotated(job=7, attempt=1, name="rows"),
    ev.Annotated(job=7, attempt=1, name="rows", value={"read": [1, 2.5, None, True, "ü"]}),
    ev.Logged(job=7, attempt=1, text="hello"),
    ev.Logged(job=7, attempt=1, text="hello", level="error", stream="tool"),
    ev.Succeeded(job=7, attempt=1),
    ev.Succeeded(
        job=7,
        attempt=1,
        value=BLOB,
        refs=[8],
        alias=True,
        added=2,
        files=FILES,
        usage=USAGE,
        stdout=CUT,
        stderr=BLOB,
    ),
    ev.Retrying(job=7, attempt=1, reason="LOST"),
    ev.Retrying(
        job=7,
        attempt=2,
        reason="MEMLIMIT",
        charged=True,
        exit_code=0,
        signal=9,
        message="killed",
        usage=USAGE,
        stdout=CUT,
        stderr=FILE_BLOB,
    ),
    ev.Failed(job=7, attempt=1, reason="LOST"),
    ev.Failed(
        job=7,
        attempt=2,
        reason="MEMLIMIT",
        exit_code=0,
        signal=9,
        message="killed",
        usage=USAGE,
        stdout=CUT,
        stderr=FILE_BLOB,
    ),
    ev.Cancelled(job=7),
    ev.Cancelled(job=7, attempt=1, usage=USAGE, stdout=BLOB, stderr=CUT),
]


RESOURCES = ev.Resources(
    cores=2.0, accelerators=(ev.Accelerator(kind="gpu", count=2, model="nvidia-a100"),), preemptible=True
)
CALL = ev.Call(digest="sha256:cd", code="sha256:12", parts={"function": "sha256:01", "n": "sha256:02"})
EXAMPLES += [
    ev.Abandoned(why="deadlock", message="only services run"),
    ev.Adjusted(settings={"max_jobs": 5}),
    ev.Adjusted(settings={"max_jobs": 5, "cores": 1.5}, by="ada@node1"),
    ev.Serving(job=7, attempt=1),
    ev.Serving(job=7, attempt=1, value=BLOB),
    ev.Surveyed(job=7, attempt=1, resources=RESOURCES),
    ev.Surveyed(job=7, attempt=1, resources=RESOURCES, call=CALL, usage=USAGE),
    ev.Reused(job=7, run="r0", source=3, values=[ev.Kept(value=BLOB, refs=[1]), ev.Kept(value=FILE_BLOB)]),
    ev.Reused(job=7, run="r0", source=3, values=[ev.Kept(value=BLOB)], files=FILES),
    ev.Rewound(job=7, failed=9),
    ev.Rewound(job=7, failed=9, wait=2.5),
    ev.Removed(job=7, files=["runs/r1/files/000/7.1/0/a.bam"]),
]

LATER: list[ev.Event] = [
    ev.Added(
        job=7,
        kind="Database",
        parents=[5],
        follows=[6],
        serves=2,
        form="service",
        wanted=BLOB,
        resources=RESOURCES,
        retry=ev.Retry(
            backoff=0.5,
            on=("exit:3", "error:builtins.OSError"),
            never=("message:disk",),
            memory_factor=1.5,
            memory_cap=1 << 30,
            time_factor=2.0,
            time_cap=60.0,
        ),
        checkpoint=True,
        cache=True,
        version="3",
        priority=-1,
        local=True,
    ),
    ev.Submitting(job=7, attempt=1, key="r1.7.1", after=6, survey=True),
    ev.Succeeded(
        job=7, attempt=1, holds=[5], files=[ev.StoredFile(path="runs/r1/files/000/7.1/0/x", keep="successors")]
    ),
    ev.Retrying(job=7, attempt=1, reason="MEMLIMIT", wait=2.5, resources=RESOURCES),
]
"""With fields that were added to a version: they have files of their own, since those of the version stay."""


def lines_of(name: str, examples: list[ev.Event] = EXAMPLES) -> list[bytes]:
    """The examples of a type, as lines."""
    middle = CODEC.envelope(TIME, 2, 4)
    found = [example for example in examples if type_name(example) == name]
    lines = CODEC.open_lines(CODEC.encode(found), 4, middle)
    return [finish(line, end=k == len(found) - 1) for k, line in enumerate(lines)]


def golden(name: str, *, later: bool = False) -> Path:
    """The file of a type at its present version, or of the fields that were added to it."""
    return GOLDEN / f"{name}.v1{'.later' if later else ''}.jsonl"


@pytest.mark.parametrize("name", [type_name(kind) for kind in LATER])
def test_fields_that_were_added_are_as_they_were(name: str) -> None:
    path = golden(name, later=True)
    lines = lines_of(name, LATER)
    if os.environ.get("ORCH_GOLDEN") == "write" and not path.exists():
        path.write_bytes(b"".join(lines))
    assert path.read_bytes() == b"".join(lines)
    (line,) = lines
    (example,) = (event for event in LATER if type_name(event) == name)
    found = CODEC.decode(line)
    assert all(getattr(found, f) == getattr(example, f) for f in type(example).__struct_fields__ if f not in ENVELOPE)


@pytest.mark.parametrize("name", [type_name(kind) for kind in ev.KNOWN])
def test_the_format_is_as_it_was(name: str) -> None:
    path = golden(name)
    lines = lines_of(name)
    assert lines, f"there is no example of {name}"
    if os.environ.get("ORCH_GOLDEN") == "write" and not path.exists():
        path.write_bytes(b"".join(lines))
    assert path.exists(), f"{name} has no golden file; see the top of this test"
    assert path.read_bytes() == b"".join(lines)


def test_every_field_has_an_example_away_from_its_default() -> None:
    for kind in ev.KNOWN:
        name = type_name(kind)
        shown = {field for line in (*lines_of(name), *lines_of(name, LATER)) for field in _fields(line)}
        own = set(kind.__struct_fields__) - {"v"}
        assert own <= shown, f"{type_name(kind)}: {own - shown}"


def _fields(line: bytes) -> set[str]:
    return set(msgspec.json.decode(line))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda p: p.name)
def test_what_was_ever_written_is_still_understood(path: Path) -> None:
    for line in path.read_bytes().splitlines(keepends=True):
        event = CODEC.decode(line)
        assert not isinstance(event, Unknown)
        assert event.time == TIME


async def segment_now() -> bytes:
    """A segment with groups of three, one and two events."""
    disk = Disk()
    await write_log(LOG, [3, 1, 2], files=disk, closed=True)
    return disk.get(segment(LOG, 1))


async def test_the_form_of_groups_is_as_it_was() -> None:
    assert (SEGMENTS / "with-sums.jsonl").read_bytes() == await segment_now()


@pytest.mark.parametrize("name", ["with-sums", "without-sums"])
async def test_groups_of_any_form_are_still_read(name: str) -> None:
    disk, now = Disk(), Disk()
    disk.put(segment(LOG, 1), (SEGMENTS / f"{name}.jsonl").read_bytes())
    now.put(segment(LOG, 1), await segment_now())
    assert list(read(LOG, files=disk)) == list(read(LOG, files=now))
    log = await open_log(LOG, disk)
    assert (log.opened.seq, log.opened.after and log.opened.after.seq) == (9, 8)
    assert log.fetch(7) == list(read(LOG, files=disk))[6]


async def test_tests_can_write_groups_as_they_were() -> None:
    assert without_sums(await segment_now()) == (SEGMENTS / "without-sums.jsonl").read_bytes()


def test_golden_lines_are_the_examples() -> None:
    for kind in ev.KNOWN:
        name = type_name(kind)
        found = [CODEC.decode(line) for line in golden(name).read_bytes().splitlines(keepends=True)]
        wanted = [example for example in EXAMPLES if type_name(example) == name]
        for k, (event, example) in enumerate(zip(found, wanted, strict=True)):
            stamped = {"seq": 4 + k, "time": TIME, "epoch": 2, "group": 4}
            assert {f: getattr(event, f) for f in event.__struct_fields__} == {
                **{f: getattr(example, f) for f in example.__struct_fields__},
                **stamped,
            }
