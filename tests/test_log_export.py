"""`orch log export`: every event with all its fields, and a database that questions can be put to."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.handmade import created, mixed, started, text, write_run
from support.logs import segment

from orch.bus import events as ev
from orch.bus.codec import finish
from orch.bus.reader import read
from orch.cli.main import main
from orch.history import replay

DOCS = Path(__file__).parent.parent / "docs" / "commands.md"


def exported(store: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What is printed."""
    capsys.readouterr()
    assert main(["log", "export", "--store", str(store)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def database(store: Path) -> sqlite3.Connection:
    """The same as a database."""
    path = store / "out.db"
    assert main(["log", "export", "--format", "sqlite", "--output", str(path), "--store", str(store)]) == 0
    return sqlite3.connect(path)


def test_each_event_with_all_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path, "r", mixed())
    found = exported(tmp_path, capsys)
    events = list(read(directory))
    assert [one["seq"] for one in found] == [event.seq for event in events]
    for one, event in zip(found, events, strict=True):
        assert {*type(event).__struct_fields__} - {"v"} <= {*one}
    done = next(one for one in found if one["type"] == "succeeded")
    assert (done["job"], done["job_kind"], done["job_name"]) == (1, "fetch", "fetch one")
    assert done["stdout"] == {"text": "out 1\n", "size": 6, "file": "", "digest": "", "cut": 0}
    assert done["value"] is None
    assert done["usage"]["memory"] == 1 << 20
    noted = next(one for one in found if one["type"] == "annotated")
    assert (noted["name"], noted["value"]) == ("records", 12)


def test_what_this_orch_does_not_know_is_passed_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segment(write_run(tmp_path, "r", []), 1)
    line = finish(b'{"seq":2,"time":"t","epoch":1,"group":2,"type":"dreamt","of":"sheep"', end=True)
    path.write_bytes(path.read_bytes() + line)
    assert exported(tmp_path, capsys)[1] == {
        "seq": 2,
        "time": "t",
        "epoch": 1,
        "group": 2,
        "type": "dreamt",
        "of": "sheep",
    }


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segment(write_run(tmp_path / "s", "r", mixed()), 1)
    out = tmp_path / "out.jsonl"
    ask = ["log", "export", "--store", str(tmp_path / "s"), "--output", str(out)]
    assert main(ask) == 0
    before = out.read_text()
    assert [json.loads(line) for line in before.splitlines()] == exported(tmp_path / "s", capsys)
    link = tmp_path / "link"
    link.symlink_to(out)
    assert main([*ask[:-1], str(link)]) == 0
    assert link.is_symlink()
    link.unlink()
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    for form in ("json", "sqlite"):
        assert main([*ask, "--format", form]) == 4
        assert out.read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "s"]
    assert main([*ask[:-1], str(tmp_path / "nowhere" / "x")]) == 6
    assert "cannot write" in capsys.readouterr().err
    assert main([*ask[:-1], str(tmp_path)]) == 6
    assert "is not a file" in capsys.readouterr().err
    assert main([*ask[:-2], "--format", "sqlite"]) == 2


def test_the_database_says_what_the_log_says(tmp_path: Path) -> None:
    file = ev.StoredFile(path="runs/r/files/a", size=3, digest="sha256:0")
    value = ev.Blob(data=b"pickle", size=6)
    events = [*mixed(), ev.Succeeded(job=4, attempt=1, value=value, refs=[1], files=[file], stdout=text("four\n"))]
    directory = write_run(tmp_path, "r", events)
    found = database(tmp_path)
    rows = found.execute("SELECT job, kind, state, attempts, why FROM jobs").fetchall()
    statuses = replay(tmp_path, "r")
    assert rows == [(int(s.id), s.kind, s.state, s.attempt, s.why) for s in statuses.values()]
    assert found.execute("SELECT count(*), max(seq) FROM events").fetchone() == (len(events) + 1,) * 2
    fields = [json.loads(one) for (one,) in found.execute("SELECT fields FROM events WHERE type = 'annotated'")]
    assert fields == [{"name": "records", "value": 12}]
    tries = "SELECT job, attempt, outcome, exit_code, host, stderr FROM attempts WHERE job IN (2, 4) ORDER BY 1, 2"
    assert [row[:5] for row in found.execute(tries)] == [
        (2, 1, "retrying", 3, "here"),
        (2, 2, "failed", 4, "here"),
        (4, 1, "succeeded", None, "here"),
    ]
    assert found.execute("SELECT pickle, is_alias FROM job_values WHERE job = 4").fetchone() == (b"pickle", 0)
    assert found.execute("SELECT ref FROM refs WHERE job = 4").fetchall() == [(1,)]
    assert found.execute("SELECT needs FROM needs WHERE job = 3").fetchall() == [(1,), (2,)]
    assert found.execute("SELECT path, size FROM files").fetchall() == [(file.path, 3)]
    run = found.execute("SELECT run, name, outcome, epochs, events, jobs, tags FROM run").fetchone()
    assert run == ("r", "mixed", "", 1, len(events) + 1, 7, '{"who":"me"}')
    assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found.close()
    assert directory.is_dir()


def value(data: bytes) -> ev.Blob:
    return ev.Blob(data=data, size=len(data))


def again(job: int, child: int, refs: list[int], names: tuple[bytes, bytes]) -> list[ev.Event]:
    """A checkpoint runs twice, since its child fails the first time."""
    return [
        *started(job),
        ev.Added(job=child, by=job, attempt=1, kind="dig"),
        ev.Succeeded(job=job, attempt=1, value=value(names[0]), refs=refs, added=1),
        *started(child),
        ev.Failed(job=child, attempt=1, reason="FAILED"),
        ev.Rewound(job=job, failed=child),
        *started(job, 2),
        ev.Succeeded(job=job, attempt=2, value=value(names[1])),
    ]


def test_a_job_has_one_value_however_often_it_ran(tmp_path: Path) -> None:
    """Checkpoints that run again, services that start again, values of earlier calls."""
    key = "r.3.1"
    events = [
        created("r"),
        ev.Added(job=1, kind="open", checkpoint=True, retries=1),
        ev.Added(job=2, kind="known", checkpoint=True, retries=1),
        ev.Added(job=3, kind="cached", cache=True),
        ev.Added(job=4, kind="Db", form="service", serves=0),
        ev.Planned(count=4, refs=[1, 2, 3]),
        *again(1, 5, [5], (b"not yet known", b"second")),
        *again(2, 6, [], (b"first", b"not looked at")),
        ev.Submitting(job=3, attempt=1, key=key, adapter="local", survey=True),
        ev.Surveyed(job=3, attempt=1, resources=ev.Resources(), call=ev.Call(digest="d"), usage=ev.Usage(wall=2.0)),
        ev.Reused(job=3, run="other", source=7, values=[ev.Kept(value=value(b"earlier"))]),
        *started(4),
        ev.Serving(job=4, attempt=1, value=value(b"old")),
        ev.Retrying(job=4, attempt=1, reason="LOST", charged=False),
        *started(4, 2),
        ev.Serving(job=4, attempt=2, value=value(b"new")),
    ]
    write_run(tmp_path, "r", events)
    found = database(tmp_path)
    values = found.execute("SELECT job, attempt, pickle FROM job_values WHERE job > 0 ORDER BY job").fetchall()
    assert values == [(1, 2, b"second"), (2, 1, b"first"), (3, 1, b"earlier"), (4, 2, b"new")]
    assert found.execute("SELECT ref FROM refs WHERE job = 1").fetchall() == []
    assert found.execute("SELECT outcome, wall FROM attempts WHERE job = 3").fetchall() == [("surveyed", 2.0)]
    assert found.execute("SELECT job FROM attempts WHERE outcome IS NULL").fetchall() == [(4,)]
    found.close()


def test_a_live_attempt_is_there_too(tmp_path: Path) -> None:
    write_run(tmp_path, "r", mixed())
    found = database(tmp_path)
    assert found.execute("SELECT attempt, pid, ended FROM attempts WHERE job = 4").fetchall() == [(1, 4711, None)]
    found.close()


def test_the_queries_in_the_manual(tmp_path: Path) -> None:
    write_run(tmp_path, "r", mixed())
    queries = re.findall(r"^```sql\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(queries) >= 2
    found = database(tmp_path)
    for query in queries:
        assert found.execute(query).fetchall(), query
    tables = {name for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert all(f"`{name}`" in DOCS.read_text() for name in tables)
    found.close()
