"""A run's log as an SQLite database, for questions that nobody has thought of yet. docs/commands.md shows some."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from orch.bus import events as ev
from orch.bus.reader import read_batches
from orch.logtools.export import Flat
from orch.state.fold import apply
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.status import explain

SCHEMA = """
CREATE TABLE run (run TEXT, name TEXT, source TEXT, function TEXT, adapter TEXT, bundle TEXT, cwd TEXT, outcome TEXT,
    created TEXT, last TEXT, epochs INTEGER, events INTEGER, jobs INTEGER, tags TEXT, options TEXT, settings TEXT);
CREATE TABLE events (seq INTEGER PRIMARY KEY, time TEXT, epoch INTEGER, group_seq INTEGER, type TEXT, job INTEGER,
    attempt INTEGER, fields TEXT);
CREATE TABLE jobs (job INTEGER PRIMARY KEY, kind TEXT, name TEXT, state TEXT, attempts INTEGER, by_job INTEGER,
    form TEXT, cores REAL, memory INTEGER, disk INTEGER, walltime REAL, retries INTEGER, exit_code INTEGER,
    signal INTEGER, reason TEXT, message TEXT, why TEXT, added TEXT, ready TEXT, running TEXT, succeeded TEXT,
    done TEXT, failed TEXT, cancelled TEXT, skipped TEXT, annotations TEXT);
CREATE TABLE needs (job INTEGER, position INTEGER, needs INTEGER, PRIMARY KEY (job, position)) WITHOUT ROWID;
CREATE TABLE attempts (job INTEGER, attempt INTEGER, key TEXT, adapter TEXT, external_id TEXT, host TEXT, pid INTEGER,
    submitting TEXT, queued TEXT, running TEXT, ended TEXT, outcome TEXT, reason TEXT, exit_code INTEGER,
    signal INTEGER, charged INTEGER, message TEXT, wall REAL, user REAL, system REAL, memory INTEGER, disk INTEGER,
    stdout TEXT, stderr TEXT, stdout_file TEXT, stderr_file TEXT, PRIMARY KEY (job, attempt)) WITHOUT ROWID;
CREATE TABLE job_values (job INTEGER PRIMARY KEY, attempt INTEGER, seq INTEGER, size INTEGER, file TEXT, digest TEXT,
    is_alias INTEGER, pickle BLOB);
CREATE TABLE refs (job INTEGER, position INTEGER, ref INTEGER, PRIMARY KEY (job, position)) WITHOUT ROWID;
CREATE TABLE files (job INTEGER, attempt INTEGER, path TEXT, size INTEGER, digest TEXT, is_directory INTEGER);
"""

INDEXES = """
CREATE INDEX events_job ON events (job);
CREATE INDEX events_type ON events (type);
CREATE INDEX jobs_state ON jobs (state);
CREATE INDEX jobs_kind ON jobs (kind);
CREATE INDEX needs_needs ON needs (needs);
CREATE INDEX files_job ON files (job);
"""

INSERT_JOB = "INSERT INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_HEAD = {"seq", "time", "epoch", "group", "type", "job", "attempt", "job_kind", "job_name"}
_TIMES = ("added", "ready", "running", "succeeded", "done", "failed", "cancelled", "skipped")


def write_database(directory: Path, path: Path, progress: Callable[[int], None] = lambda _: None) -> None:
    """The log in `directory` as a new database at `path`. Raises LogDamaged, LogTrouble, IllegalTransition, OSError."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + SCHEMA)
        database.execute("BEGIN")
        _Writer(database).write(directory, progress)
        database.execute("COMMIT")
        database.executescript(INDEXES)
    except sqlite3.OperationalError as error:  # a full disk comes as one
        raise OSError(f"SQLite: {error}") from error
    finally:
        database.close()


class _Writer:
    """`attempts` are those that are live: their rows are written when they end."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._state = State()
        self._flat = Flat()
        self._encode = msgspec.json.Encoder().encode
        self._attempts: dict[tuple[int, int], dict[str, Any]] = {}

    def write(self, directory: Path, progress: Callable[[int], None]) -> None:
        for batch in read_batches(directory):
            self._database.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?)", map(self._event, batch))
            for event in batch:
                valued = self._is_valued(event)
                apply(self._state, event)
                self._details(event, valued=valued)
            progress(batch[-1].seq)
        for row in self._attempts.values():
            self._insert("attempts", row)
        self._database.executemany(INSERT_JOB, self._jobs())
        needs = ((row.id, n, need) for row in self._rows() for n, need in enumerate(row.needs))
        self._database.executemany("INSERT INTO needs VALUES (?,?,?)", needs)
        self._run()

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        marks = ",".join("?" * len(row))
        sql = f"INSERT INTO {table} ({','.join(row)}) VALUES ({marks})"  # noqa: S608 - all names are written in this file
        self._database.execute(sql, list(row.values()))

    def _json(self, value: Any) -> str:
        text: str = self._encode(value).decode()
        return text

    def _event(self, event: ev.Event) -> tuple[Any, ...]:
        record = self._flat(event)
        fields = {name: value for name, value in record.items() if name not in _HEAD}
        place = (event.seq, event.time, event.epoch, event.group, record["type"])
        return (*place, record.get("job"), record.get("attempt"), self._json(fields))

    def _is_valued(self, event: ev.Event) -> bool:
        """Is the value of the job known that this event is about? Then it stays, whatever a later attempt returns."""
        row = self._state.jobs.get(event.job) if isinstance(event, ev.Succeeded) else None
        return row is not None and row.valued

    def _details(self, event: ev.Event, *, valued: bool) -> None:
        match event:
            case ev.Submitting():
                new = {"key": event.key, "adapter": event.adapter, "submitting": event.time}
                self._attempts[event.job, event.attempt] = {"job": event.job, "attempt": event.attempt, **new}
            case ev.Submitted():
                self._attempts[event.job, event.attempt] |= {"external_id": event.id, "queued": event.time}
            case ev.Running():
                start = {"host": event.host, "pid": event.pid, "running": event.since or event.time}
                self._attempts[event.job, event.attempt] |= start
            case ev.Succeeded() | ev.Retrying() | ev.Failed() | ev.Cancelled() | ev.Surveyed():
                self._insert("attempts", self._attempts.pop((event.job, event.attempt), {}) | _ending(event))
        match event:
            case ev.Planned():
                self._value(0, 1, event.seq, event.value, event.refs, alias=event.alias)
                self._files(0, 1, event.files)
            case ev.Succeeded():
                if not valued:
                    self._value(event.job, event.attempt, event.seq, event.value, event.refs, alias=event.alias)
                self._files(event.job, event.attempt, event.files)
            case ev.Serving():
                self._value(event.job, event.attempt, event.seq, event.value)
            case ev.Reused():
                self._value(event.job, self._state.jobs[event.job].attempt, event.seq, event.values[0].value)

    def _value(
        self, job: int, attempt: int, seq: int, value: ev.Blob, refs: Sequence[int] = (), *, alias: bool = False
    ) -> None:
        """In the place of an earlier one: of a checkpoint that ran again, or of a service that did."""
        row = (job, attempt, seq, value.size, value.file, value.digest, alias, value.data)
        self._database.execute("INSERT OR REPLACE INTO job_values VALUES (?,?,?,?,?,?,?,?)", row)
        self._database.execute("DELETE FROM refs WHERE job = ?", (job,))
        self._database.executemany("INSERT INTO refs VALUES (?,?,?)", ((job, n, ref) for n, ref in enumerate(refs)))

    def _files(self, job: int, attempt: int, files: Sequence[ev.StoredFile]) -> None:
        rows = ((job, attempt, file.path, file.size, file.digest, file.directory) for file in files)
        self._database.executemany("INSERT INTO files VALUES (?,?,?,?,?,?)", rows)

    def _rows(self) -> Iterator[Job]:
        """Jobs that are committed."""
        return (row for row in self._state.jobs.values() if row.state is not JobState.ADDED)

    def _jobs(self) -> Iterator[tuple[Any, ...]]:
        for row in self._rows():
            wants = row.resources
            yield (
                *(row.id, row.kind, row.name, row.state.value, row.attempt, row.by, row.form),
                *(wants.cores, wants.memory, wants.disk, wants.walltime, row.retries),
                *(row.exit_code, row.signal, row.reason, row.message, explain(self._state, row)),
                *(row.times.get(JobState(name)) for name in _TIMES),
                self._json(row.annotations or {}),
            )

    def _run(self) -> None:
        state, created = self._state, self._state.created
        row: dict[str, Any] = {"outcome": state.outcome, "last": state.time, "epochs": state.epoch}
        row |= {"events": state.seq, "jobs": sum(1 for _ in self._rows())}
        if created is not None:
            names = ("run", "name", "source", "function", "adapter", "bundle", "cwd")
            row |= {name: getattr(created, name) for name in names} | {"created": created.time}
            row |= {name: self._json(getattr(created, name)) for name in ("tags", "options", "settings")}
        self._insert("run", row)


def _ending(event: ev.Succeeded | ev.Retrying | ev.Failed | ev.Cancelled | ev.Surveyed) -> dict[str, Any]:
    used = event.usage
    row: dict[str, Any] = {"job": event.job, "attempt": event.attempt, "ended": event.time}
    row |= {"outcome": str(event.__struct_config__.tag), "reason": getattr(event, "reason", "")}
    for name in ("exit_code", "signal", "charged", "message"):
        row[name] = getattr(event, name, None)
    row |= {name: getattr(used, name) for name in ("wall", "user", "system", "memory", "disk")}
    for name in ("stdout", "stderr"):
        text = getattr(event, name, ev.EMPTY)  # a survey has none
        row |= {name: text.data.decode("utf-8", "replace"), f"{name}_file": text.file}
    return row
